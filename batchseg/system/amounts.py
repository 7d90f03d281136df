"""Counts, rates and pixels in words."""

import math


def counted(count: int, noun: str) -> str:
    """
    >>> counted(1, "scene"), counted(0, "scene"), counted(12345, "scene")
    ('1 scene', '0 scenes', '12345 scenes')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def are(count: int) -> str:
    """
    >>> are(1), are(2)
    ('is', 'are')
    """
    return "is" if count == 1 else "are"


def rate_in_words(rate: float, digits: int = 1) -> str:
    """A rate with so many decimals, or with as many more as show two digits.

    >>> rate_in_words(12.34), rate_in_words(12.34, 2), rate_in_words(0.5), rate_in_words(0.0431)
    ('12.3', '12.34', '0.50', '0.043')
    """
    if 0 < rate < 1:
        digits = max(digits, 1 - math.floor(math.log10(rate)))
    return f"{rate:.{digits}f}"


def pixels_in_words(pixels: float) -> str:
    """
    >>> pixels_in_words(0), pixels_in_words(11_200), pixels_in_words(250_000), pixels_in_words(3.456e9)
    ('0 px', '11,200 px', '0.25 Mpx', '3456.0 Mpx')
    """
    if pixels < 100_000:
        return f"{pixels:,.0f} px"
    return f"{pixels / 1e6:.2f} Mpx" if pixels < 100e6 else f"{pixels / 1e6:.1f} Mpx"
