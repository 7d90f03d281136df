"""Which bands of a scene a job means, and what the files call them."""

from collections.abc import Sequence

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.pixels.band_colors import RGB, colors_of_names
from batchseg.pixels.landsat import contradicts, in_words

COLORS = frozenset((*RGB, "nir"))
"""That bands are told apart by."""


class NoBandError(ValueError):
    """A scene has no such band, or several; says so in words about the scene."""


def bands_of(scene: Scene, recipe: Recipe) -> tuple[int, ...]:
    """Numbers from 1 of the bands that the network gets, in its order.

    Raises:
        NoBandError: the job names a band that the scene lacks, or has twice. `fit.mismatch` says so before.
    """
    if recipe.all_bands and scene.alpha_bands:
        data = [n for n in range(1, scene.band_count + 1) if n not in scene.alpha_bands]
        return tuple(data[: len(recipe.bands)])
    if not recipe.band_names:
        return recipe.bands
    return tuple(_numbered(scene, name) for name in recipe.band_names)


def _numbered(scene: Scene, name: str) -> int:
    """By what the job or the file calls it, else by its colour."""
    wanted = name.strip().casefold()
    named = [n for n, own in enumerate(scene.band_names, start=1) if own.strip().casefold() == wanted]
    named = named or _counted(scene, wanted)
    found = named or [n for n in range(1, scene.band_count + 1) if color_of(scene, n) == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = " and ".join(map(str, found))
        msg = f"has several bands called {name!r}: {numbers}; give the job's `bands` by number"
    else:
        msg = f"has no band called {name!r}; it has {describe_bands(scene)}"
    raise NoBandError(msg)


def _counted(scene: Scene, wanted: str) -> list[int]:
    """By its place in its file (`red 1`), where the file has no other band of data and is called `red`."""
    file, _, place = wanted.rpartition(" ")
    if not scene.source.names or not place.isdecimal() or not 0 < int(place) <= scene.band_count:
        return []
    names = [own.strip().casefold() for own in scene.band_names]
    before = [f"{file} {n}" for n in range(1, int(place))]
    return [
        n
        for n, own in enumerate(names, start=1)
        if own == file and n > len(before) and names[n - 1 - len(before) : n - 1] == before
    ]


def color_of(scene: Scene, band: int) -> str:
    """The colour that a band is of by its product or name, else by colour interpretation; empty: unknown.

    Somebody wrote the names. GDAL calls the first bands of any 8-bit file red, green and blue: of a band
    without a name that counts only where it contradicts none of the others.
    """
    named = _named(scene)
    tagged = scene.colors[band - 1] if scene.colors else ""
    if not any(named):
        return tagged
    return named[band - 1] or ("" if contradictions(scene) or tagged in named else tagged)


def _named(scene: Scene) -> tuple[str, ...]:
    """By the product's numbers, else by the name, per band; empty where neither says anything of any."""
    named = colors_of_names(scene.band_names)
    if not scene.roles:
        return named
    return tuple(role or name for role, name in zip(scene.roles, named or scene.roles, strict=True))


def misnamed(scene: Scene, bands: Sequence[int]) -> str | None:
    """Which of these bands its name calls another colour than the product has there, in words; else None."""
    if not scene.roles or not scene.band_names:
        return None
    for band in bands:
        role = scene.roles[band - 1]
        if contradicts(scene.band_names[band - 1], role):
            return (
                f"has {in_words(role)} as {called(scene, band)}, by its product of {scene.satellite}: blue, "
                f"green, red and near infrared are B1 to B4 of Landsat 4 to 7, B2 to B5 of Landsat 8 and 9; "
                f"give scenes of each kind an input of their own"
            )
    return None


def described_colors(names: Sequence[str], tagged: Sequence[str]) -> tuple[str, ...]:
    """The colour that each band is of as somebody said it; empty where nobody did.

    Args:
        names: of the bands.
        tagged: their colour interpretation; empty words are none.
    """
    named = colors_of_names(names)
    if not any(named):
        return () if is_default(tagged) else tuple(color if color in COLORS else "" for color in tagged)
    clash = _contradictions(named, tagged)
    return tuple(
        name or ("" if clash or tag in named or tag not in COLORS else tag)
        for name, tag in zip(named, tagged, strict=True)
    )


def contradictions(scene: Scene) -> tuple[int, ...]:
    """Numbers of the bands that are of one colour by their name, and of another by colour interpretation."""
    return _contradictions(_named(scene), scene.colors)


def _contradictions(named: Sequence[str], tagged: Sequence[str]) -> tuple[int, ...]:
    pairs = zip(named, tagged, strict=False)
    return tuple(
        number for number, (name, tag) in enumerate(pairs, start=1) if name and tag in COLORS and name != tag
    )


def is_default(colors: Sequence[str]) -> bool:
    """Whether a driver may have set this colour interpretation without anybody meaning it."""
    return tuple(colors[:3]) == RGB and not set(colors[3:]) - {"", "undefined", "alpha"}


def red_green_blue(scene: Scene) -> tuple[int, ...]:
    """Numbers of the bands of these colours; empty where one is missing, or is there twice."""
    try:
        return tuple(_numbered(scene, name) for name in RGB)
    except NoBandError:
        return ()


def called(scene: Scene, band: int) -> str:
    """A band in words: its number, and what the job or the file calls it."""
    name = scene.band_names[band - 1] if scene.band_names else ""
    return f"band {band} ({name})" if name else f"band {band}"


def describe_bands(scene: Scene) -> str:
    """All bands in words: number, name, colour.

    Returns:
        Such as `1 B04 (red), 2 B03 (green)`; `3 bands without names` where nothing says more.
    """
    names = scene.band_names or ("",) * scene.band_count
    colors = [color_of(scene, number) for number in range(1, scene.band_count + 1)]
    if not any(names) and not any(colors):
        return f"{scene.band_count} band{'s' * (scene.band_count > 1)} without names"
    words = []
    for number, (name, color) in enumerate(zip(names, colors, strict=True), start=1):
        shade = f"({color})" if color and name and color != name.casefold() else color if not name else ""
        words.append(" ".join(filter(None, (str(number), name, shade))))
    return ", ".join(words)
