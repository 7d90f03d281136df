"""Words that fit: ids of any length and script, in a table or on an image."""

from collections.abc import Callable
from functools import cache, lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "LiberationSans-Regular.ttf")
"""The most scripts first. Pillow's own font, where the system has none of them, draws ASCII alone."""

MISSING = "\uffff"
"""Not a character: a font draws for it what it draws for all that it does not know."""


def cut(text: str, width: int, measure: Callable[[str], float] = len) -> str:
    """Text no wider than `width`, cut in its middle: ids differ at their ends.

    >>> cut("line-1/2026-11-19/part-00017.png", 20)
    'line-1...t-00017.png'
    """
    if measure(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        head = kept * 2 // 5
        short = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
        if measure(short) <= width:
            return short
    return "..."


def printable(text: str) -> str:
    r"""Text without characters that move a cursor or are no characters at all.

    >>> printable("a\tb\udcff")
    'a\\tb\\udcff'
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


@cache
def load_font(size: int) -> Font:
    """Of `size` pixels: one of the system's, else Pillow's own."""
    for name in SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def drawable(text: str, font: Font) -> str:
    """Text in which what the font cannot draw is replaced by its code."""
    return "".join(c if c.isprintable() and _can_draw(c, font) else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=65536)
def _can_draw(character: str, font: Font) -> bool:
    if character == " ":
        return True
    drawn, missing = font.getmask(character), font.getmask(MISSING)
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
