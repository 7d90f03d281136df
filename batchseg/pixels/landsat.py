"""What Landsat's bands are: the same number is another colour on Landsat 4 to 7 and on 8 and 9.

The spacecraft says it, by the id in the name of a file or of its folder, else by its `*_MTL` file.
"""

import re
from collections.abc import Sequence

from batchseg.pixels.band_colors import CODE, IMAGER, MAPPER, OTHERS, color_of_word

_SCANNER = ("green", "red", "nir", "nir")

_ID = re.compile(
    r"(?<![a-z0-9])l(?P<sensor>[cotem])"
    r"(?:0(?P<one>[1-9])(?:(?![a-z0-9])|(?=\d{14}))|(?P<old>[1-9])(?=\d{13}))"
)
"""Of collections 1 and 2 (`LT05_L2SP_...`), as ESPA orders are called (`LT050380312011...`), and of before
(`LT50380312011...`)."""
_FILE = re.compile(r"(?:^|_)(?:sr_|st_|toa_)?b(?:and)?(?P<number>\d{1,2})(?=[_.])")
_ESPA = re.compile(r"(?<![a-z0-9])(?P<sr>sr_|toa_)?band[ _]?(?P<number>\d{1,2})(?![a-z0-9])")
"""How ESPA calls bands. Elsewhere `band4` is a place: it counts beside a product's id alone."""
_SPACECRAFT = re.compile(r"LANDSAT_(?P<one>[1-9])\b.*?(?P<sensor>MSS)?$")

_WORDS = {"nir": "near infrared", "swir1": "short-wave infrared", "swir2": "short-wave infrared"}

_SWIR = re.compile(r"(?<![a-z])swir(?:[ _-]?(?P<number>[12]))?")


def craft_of(uri: str, spacecraft: str) -> tuple[str, int]:
    """Sensor and number of the satellite that a raster is of; ("", 0): of none that is known.

    Args:
        uri: of the raster.
        spacecraft: what its metadata say, as `LANDSAT_5 TM`; empty: nothing.

    >>> craft_of("/a/LT05_L2SP_038031_20110901_20200820_02_T1_SR_B4.TIF", "")
    ('t', 5)
    >>> craft_of("/a/LE070170362008041901T1-SC20201103094523/band4.tif", "")
    ('e', 7)
    """
    for part in reversed(uri.lower().split("/")[-2:]):
        if found := _ID.search(part):
            return found["sensor"], int(found["one"] or found["old"])
    if found := _SPACECRAFT.match(spacecraft):
        return "m" if found["sensor"] else "", int(found["one"])
    return "", 0


def roles(uri: str, names: Sequence[str], *, spacecraft: str = "") -> tuple[tuple[str, ...], str]:
    """What a raster's bands are by its product's numbers, and the satellite in words.

    Args:
        uri: of the raster.
        names: what it calls its bands itself, one per band, empty where it does not.
        spacecraft: what its metadata say.

    Returns:
        Per band `red`, `nir`, `swir1`, ... or empty; and `Landsat 5`, or empty.
    """
    nothing = ("",) * len(names)
    sensor, number = craft_of(uri, spacecraft)
    if not number:
        return nothing, ""
    file = _FILE.search(uri.rpartition("/")[2].lower())
    if len(names) == 1 and file is not None:
        numbers = [int(file["number"])]
    else:
        plain = [name.strip().casefold() for name in names]
        codes = [CODE.search(name) or _ESPA.search(name) for name in plain]
        numbers = [int(code["number"]) if code and code["number"].isdigit() else 0 for code in codes]
        are_places = all(own in (0, place) for place, own in enumerate(numbers, start=1))
        if are_places and not any(code and code["sr"] for code in codes):
            return nothing, ""
    table = _table(sensor, number)
    return tuple(table.get(own, "") for own in numbers), f"Landsat {number}"


def _table(sensor: str, number: int) -> dict[int, str]:
    if number <= 3:
        return dict(enumerate(_SCANNER, start=4))
    if sensor == "m":
        return dict(enumerate(_SCANNER, start=1))
    return dict(enumerate(MAPPER if number <= 7 else IMAGER, start=1))


def contradicts(name: str, role: str) -> bool:
    """Whether what somebody calls a band is surely another part of the spectrum than its role.

    >>> contradicts("red", "nir"), contradicts("red", "red"), contradicts("first", "nir")
    (True, False, False)
    """
    meant = _meant(name.strip().casefold())
    return bool(role and meant and role not in meant)


def _meant(name: str) -> set[str]:
    if OTHERS.search(name):
        return {"coastal"}
    if found := _SWIR.search(name):
        return {f"swir{found['number']}"} if found["number"] else {"swir1", "swir2"}
    color = color_of_word(name)
    return {color} if color else set()


def in_words(role: str) -> str:
    """A role for people.

    >>> in_words("nir")
    'near infrared'
    """
    return _WORDS.get(role, role)
