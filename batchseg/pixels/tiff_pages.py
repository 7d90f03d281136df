"""The pages of a TIFF, as their directories say: of some GDAL tells nothing."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""Bytes of a file, by offset and number."""

SUBFILE, WIDTH, HEIGHT = 254, 256, 257
"""Tags of TIFF 6.0."""

PAGES, ENTRIES = 4096, 1024
"""Directories, and tags in each, that are looked at. They may lead in circles."""

FURTHEST = 2**62
"""Offset that a system can be asked for."""

_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Types of unsigned integers that stand in the directory itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One directory."""

    is_reduced: bool
    """It says that it is another page in fewer pixels: an overview, a preview."""
    is_mask: bool
    height: int
    width: int


def read_pages(read: Read) -> Iterator[Page]:
    """The pages in their order, as far as the directories can be read.

    TIFF 6.0, section 2; BigTIFF has 8 bytes where TIFF has 4, and 2 for the number of tags.
    """
    head = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    magic = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else 0
    if magic not in (42, 43):
        return
    layout = _Layout(order, is_big=magic == 43)
    (at,) = layout.unpack(layout.offset, head[8:] if layout.is_big else head[4:8])
    seen: set[int] = set()
    while 0 < at < FURTHEST and at not in seen and len(seen) < PAGES:
        seen.add(at)
        found = _page(read, at, layout)
        if found is None:
            return
        page, at = found
        yield page


def hidden_picture(read: Read) -> str:
    """Which picture of its own a TIFF holds that GDAL takes for an overview, in words; empty: none.

    Of one pixel the overview is as large.
    """
    pages = [page for page in read_pages(read) if not page.is_mask]
    if len(pages) < 2:
        return ""
    first, *others = pages
    if first.is_reduced and not all(page.is_reduced for page in others):
        return "a preview as its first page, before the picture itself"
    large = [page for page in others if page.height >= first.height and page.width >= first.width]
    if not any(page.is_reduced for page in large) or first.height * first.width <= 1:
        return ""
    return f"{len(large) + 1} pages of full size, of which some are said to be smaller pictures of another"


@dataclass(frozen=True, slots=True)
class _Layout:
    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        return "Q" if self.is_big else "I"

    @property
    def count(self) -> str:
        return "Q" if self.is_big else "H"

    def unpack(self, kind: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack_from(self.order + kind, data)


def _page(read: Read, at: int, layout: _Layout) -> tuple[Page, int] | None:
    """A directory, and where the next one begins; None where it is cut off, or has tags beyond number."""
    head = struct.calcsize(f"={layout.count}")
    value = struct.calcsize(f"=HH{layout.offset}")
    entry = value + struct.calcsize(f"={layout.offset}")
    counted = read(at, head)
    number = layout.unpack(layout.count, counted)[0] if len(counted) == head else 0
    if not 0 < number <= ENTRIES:
        return None
    size = number * entry + struct.calcsize(f"={layout.offset}")
    data = read(at + head, size)
    if len(data) < size:
        return None
    tags = {}
    for start in range(0, number * entry, entry):
        tag, kind = layout.unpack("HH", data[start : start + 4])
        if tag in (SUBFILE, WIDTH, HEIGHT) and kind in _NUMBERS:
            (tags[tag],) = layout.unpack(_NUMBERS[kind], data[start + value : start + entry])
    kind = tags.get(SUBFILE, 0)
    page = Page(
        is_reduced=bool(kind & 1),
        is_mask=bool(kind & 4),
        height=tags.get(HEIGHT, 0),
        width=tags.get(WIDTH, 0),
    )
    return page, layout.unpack(layout.offset, data[number * entry :])[0]
