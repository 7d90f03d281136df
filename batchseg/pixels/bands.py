"""Which bands of a scene a job means, and what the files call them."""

import re

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe

COLOR = re.compile(r"\b(red|green|blue)\b(?![ _-]?edge)", re.IGNORECASE)


class NoBandError(ValueError):
    """A scene has no such band, or several; says so in words about the scene."""


def bands_of(scene: Scene, recipe: Recipe) -> tuple[int, ...]:
    """Numbers from 1 of the bands that the network gets, in its order.

    Raises:
        NoBandError: the job names a band that the scene lacks, or has twice. `fit.mismatch` says so before.
    """
    if not recipe.band_names:
        return recipe.bands
    return tuple(_numbered(scene, name) for name in recipe.band_names)


def _numbered(scene: Scene, name: str) -> int:
    """By what the job or the file calls it, else by its colour."""
    wanted = name.strip().casefold()
    named = [n for n, own in enumerate(scene.band_names, start=1) if own.strip().casefold() == wanted]
    found = named or [n for n in range(1, scene.band_count + 1) if color_of(scene, n) == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = " and ".join(map(str, found))
        msg = f"has several bands called {name!r}: {numbers}; give the job's `bands` by number"
    else:
        msg = f"has no band called {name!r}; it has {describe_bands(scene)}"
    raise NoBandError(msg)


def color_of(scene: Scene, band: int) -> str:
    """The colour that a band is of by its name, else by the file's colour interpretation; empty: unknown.

    GDAL calls the three bands of any 8-bit file red, green and blue: one name that is a colour says more.
    """
    shades = [COLOR.search(name) for name in scene.band_names]
    if any(shades):
        shade = shades[band - 1]
        return shade[1].lower() if shade else ""
    return scene.colors[band - 1] if scene.colors else ""


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
    colors = scene.colors or ("",) * scene.band_count
    if not any(names) and not any(colors):
        return f"{scene.band_count} band{'s' * (scene.band_count > 1)} without names"
    words = []
    for number, (name, color) in enumerate(zip(names, colors, strict=True), start=1):
        shade = f"({color})" if color and name and color != name.casefold() else color if not name else ""
        words.append(" ".join(filter(None, (str(number), name, shade))))
    return ", ".join(words)
