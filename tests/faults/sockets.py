"""Which addresses processes listen on, by /proc: no tool need be installed."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

LISTEN = "0A"


def listening(pids: Iterable[int]) -> set[tuple[str, str]]:
    """Name of the process and address, of each TCP socket that waits for connections."""
    addresses = dict(_listeners())
    found = set()
    for pid in pids:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes = [match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))]
        found |= {(name, addresses[inode]) for inode in inodes if inode in addresses}
    return found


def is_open_to_others(address: str) -> bool:
    return not ipaddress.ip_address(address.rpartition(":")[0]).is_loopback


def _listeners() -> Iterator[tuple[str, str]]:
    """Inode and address of each listening socket of this network namespace."""
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                yield fields[9], _address(fields[1])


def _address(text: str) -> str:
    """`0100007F:1F90` as 127.0.0.1:8080: words of four bytes, each in the machine's order."""
    words, port = text.split(":")
    data = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    host = ipaddress.ip_address(data)
    mapped = getattr(host, "ipv4_mapped", None)
    return f"{mapped or host}:{int(port, 16)}"
