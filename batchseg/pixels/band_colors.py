"""Which colours the names of bands stand for: words, letters, and numbers of Sentinel-2 and Landsat."""

import re
from collections.abc import Sequence

RGB = ("red", "green", "blue")

WORD = re.compile(
    r"(?<![a-z])(?:(?P<nir>nir|near[ _-]?infra[ _-]?red)|(?<!infra[ _-])(?P<color>red|green|blue))"
    r"(?![a-z])(?![ _-]?edge)"
)
LETTERS = {"r": "red", "g": "green", "b": "blue", "n": "nir"}
OTHERS = re.compile(r"coastal|deep[ _-]?blue")
"""Bands that have a colour in their name and are another one."""

CODE = re.compile(r"(?<![a-z0-9])(?P<sr>sr_)?b(?P<number>\d{1,2}|8a)(?![a-z0-9])")
THEMATIC_MAPPER = re.compile(r"(?<![a-z0-9])l[te]0[4-7](?![0-9])")
LAND_IMAGER = re.compile(r"(?<![a-z0-9])l[co]0[89](?![0-9])")

SENTINEL_2 = {"2": "blue", "3": "green", "4": "red", "8": "nir", "8a": "nir"}
MAPPER = ("blue", "green", "red", "nir", "swir1", "thermal", "swir2", "pan")
"""What the bands of Landsat 4 to 7 are, from 1 on."""
IMAGER = (
    *("coastal", "blue", "green", "red", "nir", "swir1"),
    *("swir2", "pan", "cirrus", "thermal", "thermal"),
)
"""Those of Landsat 8 and 9."""


def _colors_by_number(roles: Sequence[str]) -> dict[str, str]:
    return {str(n): role for n, role in enumerate(roles, start=1) if role in LETTERS.values()}


LANDSAT_4_TO_7, LANDSAT_8_AND_9 = _colors_by_number(MAPPER), _colors_by_number(IMAGER)


def colors_of_names(names: Sequence[str]) -> tuple[str, ...]:
    """The colour that each band's name stands for.

    Args:
        names: of all bands of one file, in its order.

    Returns:
        red, green, blue, nir or empty, one per name. Letters count where at least two bands have one, numbers
        where they are no mere places in the file (`B1`, `B2`, `B3`).

    >>> colors_of_names(["B04", "B03", "B02"])
    ('red', 'green', 'blue')
    """
    plain = [name.strip().casefold() for name in names]
    by_word = [color_of_word(name) for name in plain]
    if any(by_word):
        return tuple(by_word)
    by_letter = [LETTERS.get(name, "") for name in plain]
    if len(set(by_letter) - {""}) > 1:
        return tuple(by_letter)
    return _by_number(plain)


def color_of_word(name: str) -> str:
    """The colour that a word in a name, in lower case, says; empty where none does."""
    found = None if OTHERS.search(name) else WORD.search(name)
    return "" if found is None else "nir" if found["nir"] else found["color"]


def _by_number(names: Sequence[str]) -> tuple[str, ...]:
    codes = [CODE.search(name) for name in names]
    numbers = ["" if code is None else code["number"].lstrip("0") for code in codes]
    table = _table(names, codes, numbers)
    return tuple(table.get(number, "") for number in numbers)


def _table(
    names: Sequence[str], codes: Sequence[re.Match[str] | None], numbers: Sequence[str]
) -> dict[str, str]:
    """Colours by number, of the satellite that the names are of; empty where that is not known."""
    if any(map(THEMATIC_MAPPER.search, names)):
        return LANDSAT_4_TO_7
    if any(map(LAND_IMAGER.search, names)):
        return LANDSAT_8_AND_9
    there = set(numbers)
    if any(code and code["sr"] for code in codes):  # Landsat's surface reflectance, of either kind
        if "1" not in there or "6" in there:
            return LANDSAT_8_AND_9
        return LANDSAT_4_TO_7 if "7" in there or not {"4", "5"} & there else {}
    is_padded = any(code and code["number"].startswith("0") for code in codes)
    are_places = all(number in ("", str(place)) for place, number in enumerate(numbers, start=1))
    if are_places or ("1" in there and "8a" not in there and not is_padded):
        return {}  # Landsat 5 and 7 begin with blue, others with violet
    return SENTINEL_2
