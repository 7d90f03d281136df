"""Names that files may have, and what of them must not reach a terminal."""

from hypothesis import strategies as st

ACTING = [
    *map(chr, range(0x20)),
    "\x7f",
    *map(chr, range(0x80, 0xA0)),
    *"\u2028\u2029\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff",
    "\U000e0041",
    "\udc80",
    "\udcff",
]
"""Control characters, breaks of lines, marks of direction and width, tags, bytes that are no UTF-8."""

SEQUENCES = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\r",
    "\r\n",
    "\nbatchseg: run 1: all well",
    "\x0b\x0c\x1c\x1d\x1e\x85",
    "\u202egnp.",
    "\x08" * 3,
]

NAMES = st.lists(
    st.one_of(st.sampled_from(ACTING), st.sampled_from(SEQUENCES), st.text(max_size=5)),
    min_size=1,
    max_size=6,
).map("".join)


def acts(text: str) -> bool:
    """Whether a terminal would do anything but write the text's characters on one line."""
    return bool(set(text) & set(ACTING)) or len(text.splitlines()) > 1
