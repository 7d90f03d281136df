"""A proxy before an S3 server that spoils some of the requests.

Requests and replies pass unchanged, the Host header too, which signatures cover. Which request is
spoiled follows from the seed, the request and how often it came, not from the order of arrival.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

Kind = Literal["read", "list", "write", "upload"]
"""Of a request: GET and HEAD of objects; listings; PUT, POST and DELETE; parts of a multipart upload."""

Fault = Literal[
    "500",
    "503 SlowDown",
    "reset",
    "cut short",
    "wrong length",
    "stall",
    "lost reply",
    "expired",
    "denied",
    "terse error",
]
"""Of a terse error only the code is left, as some servers say no more."""

TRANSIENT: tuple[Fault, ...] = ("500", "503 SlowDown", "reset", "cut short", "wrong length", "lost reply")
"""Those that pass, and cost no time."""

ALL_KINDS: frozenset[Kind] = frozenset(("read", "list", "write", "upload"))

_REFUSALS: dict[str, tuple[str, str, str]] = {
    "500": ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    "503 SlowDown": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "expired": ("403 Forbidden", "ExpiredToken", "The provided token has expired."),
    "denied": ("403 Forbidden", "AccessDenied", "Access Denied"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiling:
    """What is done to how many requests."""

    faults: tuple[Fault, ...] = ()
    """One of them is drawn for each request that is spoiled."""
    share: float = 0.0
    """Of the requests, 0..1."""
    kinds: Collection[Kind] = ALL_KINDS
    after: int = 0
    """Requests of these kinds that pass first."""
    stall_seconds: float = 30.0
    only: str = ""
    """A regular expression that the request's method and target must contain."""
    each: int | None = None
    """Times that the same request is spoiled at most; None: whenever it is drawn."""
    seed: int = 0


@dataclass(slots=True)
class Proxy:
    """A proxy that listens; see `proxied`."""

    server: str
    """host:port."""
    port: int = 0
    spoiling: Spoiling = Spoiling()
    requests: Counter[str] = field(default_factory=Counter)
    """By kind, spoiled ones included."""
    injected: Counter[str] = field(default_factory=Counter)
    """By fault."""
    targets: list[str] = field(default_factory=list)
    """Fault, method and target of each request that was spoiled."""
    meddle: Callable[[str, str], None] | None = None
    """Called with method and target before a request is passed on."""
    _seen: Counter[str] = field(default_factory=Counter)
    _passed: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spoil(self, spoiling: Spoiling) -> None:
        """From now on; counts of what was injected begin again."""
        self.spoiling, self._passed = spoiling, 0
        self.injected, self._seen, self.targets = Counter(), Counter(), []

    def pause(self) -> None:
        """Spoil nothing any more; counts stay."""
        self.spoiling = Spoiling()

    def draw(self, method: str, target: str) -> Fault | None:
        """What befalls a request."""
        kind = kind_of(method, target)
        self.requests[kind] += 1
        plan = self.spoiling
        request = f"{method} {target}"
        if not plan.faults or kind not in plan.kinds or not re.search(plan.only, request):
            return None
        self._passed += 1
        if self._passed <= plan.after:
            return None
        self._seen[request] += 1
        chance = random.Random(f"{plan.seed}/{request}/{self._seen[request]}")
        enough = plan.each is not None and self._seen[request] > plan.each
        if enough or chance.random() >= plan.share:
            return None
        fault = chance.choice(plan.faults)
        if fault == "lost reply" and method in ("GET", "HEAD"):
            return None
        if fault in ("cut short", "wrong length") and method != "GET":
            return None
        self.injected[fault] += 1
        self.targets.append(f"{fault}: {request}")
        return fault


def kind_of(method: str, target: str) -> Kind:
    """What kind of request it is.

    >>> kind_of("GET", "/bucket?list-type=2&prefix=in"), kind_of("PUT", "/b/key?partNumber=1&uploadId=x")
    ('list', 'upload')
    """
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    if "uploadId" in query or "uploads" in query:
        return "upload"
    if method not in ("GET", "HEAD"):
        return "write"
    return "read" if parts.path.strip("/").count("/") else "list"


@contextlib.contextmanager
def proxied(server: str) -> Iterator[Proxy]:
    """A proxy on a free port of loopback, served by a thread.

    Args:
        server: of the S3 server, http://host:port.
    """
    proxy = Proxy(server=server.removeprefix("http://").rstrip("/"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(
            lambda reader, writer: _serve(proxy, reader, writer), "127.0.0.1", 0, limit=2**20
        )

    listening = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _serve(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while (request := await _read_request(reader, writer)) is not None:
            head, body = request
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            if not await _answer(proxy, writer, method, target, head, body):
                break
    writer.close()


async def _answer(
    proxy: Proxy, writer: asyncio.StreamWriter, method: str, target: str, head: bytes, body: bytes
) -> bool:
    """Whether the connection goes on."""
    fault = proxy.draw(method, target)
    if fault in _REFUSALS:
        writer.write(_refusal(fault, method))
        await writer.drain()
        return True
    if fault == "reset":
        _reset(writer)
        return False
    if proxy.meddle is not None:
        await asyncio.get_running_loop().run_in_executor(None, proxy.meddle, method, target)
    if fault == "stall":
        await asyncio.sleep(proxy.spoiling.stall_seconds)
    reply_head, reply = await _forward(proxy.server, head, body)
    if fault == "lost reply":
        _reset(writer)
        return False
    if fault == "wrong length":
        reply = reply[: len(reply) // 2] if len(target) % 2 else reply + b"surplus"
        reply_head = re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>%d" % len(reply), reply_head)
    if fault == "terse error":
        reply = re.sub(rb"<(Condition|Message)>.*?</\1>", b"", reply)
        reply_head = re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>%d" % len(reply), reply_head)
    writer.write(reply_head + (reply[: len(reply) // 2] if fault == "cut short" else reply))
    await writer.drain()
    return fault != "cut short"


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    if re.search(rb"(?i)\r\nexpect: *100-continue", head):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        head = re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", head)
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return head, await _read_chunks(reader)
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head, await reader.readexactly(int(length[1])) if length else b""


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body as it came, framing and all."""
    chunks = []
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        chunks.append(line + await reader.readexactly(size + 2))
        if size == 0:
            return b"".join(chunks)


async def _forward(server: str, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The server's reply: its head, fit for a connection that goes on, and its body as it came."""
    host, _, port = server.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
    head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).replace(
        b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
    )
    writer.write(head + body)
    await writer.drain()
    reply_head = await reader.readuntil(b"\r\n\r\n")
    reply = await reader.read()
    writer.close()
    return re.sub(rb"(?i)\r\n(connection|keep-alive):[^\r]*", b"", reply_head), reply


def _refusal(fault: str, method: str) -> bytes:
    status, code, message = _REFUSALS[fault]
    xml = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    body = b"" if method == "HEAD" else xml.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(xml)}\r\n\r\n"
    return head.encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, as a crashed server or a firewall does."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
