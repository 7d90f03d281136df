"""What is odd about the bands that the network gets of a run's scenes, in words."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchseg.driver.scene_words import count_of, examples
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.pixels.band_colors import RGB
from batchseg.pixels.bands import (
    NoBandError,
    bands_of,
    called,
    color_of,
    contradictions,
    is_default,
    red_green_blue,
)

BLUE_FIRST = RGB[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alike:
    """Scenes whose bands have the same names and colours."""

    scenes: list[Scene]
    bands: tuple[int, ...]
    """That the network gets."""

    @property
    def first(self) -> Scene:
        return self.scenes[0]

    @property
    def colors(self) -> tuple[str, ...]:
        return tuple(color_of(self.first, band) for band in self.bands)

    @property
    def by_product(self) -> bool:
        """Whether the numbers of its product say what one of them is."""
        return any(self.first.roles[band - 1] for band in self.bands) if self.first.roles else False


def band_warnings(scenes: Sequence[Scene], recipe: Recipe) -> Iterator[str]:
    """A line for each thing that is odd about the scenes' bands, or about their order."""
    by_look: dict[tuple[tuple[object, ...], ...], list[Scene]] = {}
    for scene in scenes:
        look = (scene.band_names, scene.roles, scene.colors, scene.alpha_bands)
        by_look.setdefault(look, []).append(scene)
    kinds = [_Alike(scenes=alike, bands=bands_of(alike[0], recipe)) for alike in by_look.values()]
    yield from _palettes(kinds)
    yield from _alphas(kinds, recipe)
    yield from _contradictions(kinds)
    colored = [kind for kind in kinds if len({*RGB} & {*kind.colors}) > 1]
    known = [kind for kind in kinds if kind in colored or kind.by_product]
    counts: dict[tuple[str, ...], int] = {}
    for kind in known:
        counts[kind.colors] = counts.get(kind.colors, 0) + len(kind.scenes)
    usual = max(known, key=lambda kind: counts[kind.colors], default=None)
    others = [
        scene for kind in known if usual and _differs(kind.colors, usual.colors) for scene in kind.scenes
    ]
    if usual and others:
        yield (
            f"bands: the network gets {_in_words(usual)} of {examples(usual.scenes)}, and another order of "
            f"{count_of(others)} ({examples(others)}); {_names_for_all(known, usual, recipe)}"
        )
    elif not recipe.band_names:
        yield from _other_orders(colored)


def _palettes(kinds: Sequence[_Alike]) -> Iterator[str]:
    for kind in kinds:
        colors = kind.first.colors
        if palette := next((n for n in kind.bands if colors and colors[n - 1] == "palette"), 0):
            yield (
                f"bands: {called(kind.first, palette)} of {count_of(kind.scenes)} ({examples(kind.scenes)}) "
                f"holds places in a table of colours, no brightness; `gdal_translate -expand rgb` makes "
                f"colours of it"
            )


def _alphas(kinds: Sequence[_Alike], recipe: Recipe) -> Iterator[str]:
    """Where numbers count files whose alpha they do not know of: a real band is left out for it.

    GDAL itself calls the fourth band of 8 bits alpha, which is near infrared then: numbers name that too.
    """
    if recipe.all_bands or recipe.band_names:
        return
    for kind in kinds:
        scenes = [scene for scene in kind.scenes if len(scene.source.rasters) > 1]
        colors, alphas = kind.first.colors, {*kind.first.alpha_bands} & {*kind.bands}
        odd = [band for band in sorted(alphas) if colors[max(0, band - 4) : band - 1] != RGB]
        if odd and scenes:
            yield (
                f"bands: {called(scenes[0], odd[0])} of {count_of(scenes)} ({examples(scenes)}) is "
                f"tagged as alpha, and the network gets it; `bands` counts all bands of all files, alpha "
                f"too: give them by name, or leave `bands` out to use all but alpha"
            )


def _contradictions(kinds: Sequence[_Alike]) -> Iterator[str]:
    """Where somebody set the tags, too: those that a driver sets by itself mean nothing beside names."""
    for kind in kinds:
        odd = [band for band in contradictions(kind.first) if band in kind.bands]
        if odd and not is_default(kind.first.colors):
            named = ", ".join(f"{band} {color_of(kind.first, band)}" for band in odd)
            tagged = ", ".join(f"{band} {kind.first.colors[band - 1]}" for band in odd)
            yield (
                f"bands: of {count_of(kind.scenes)} ({examples(kind.scenes)}) names and colour "
                f"interpretation contradict each other: by name bands are {named}, by colour "
                f"interpretation {tagged}; names count, and if they are wrong, give `bands` by number"
            )


def _differs(one: Sequence[str], other: Sequence[str]) -> bool:
    return any(mine and yours and mine != yours for mine, yours in zip(one, other, strict=True))


def _in_words(kind: _Alike) -> str:
    return ", ".join(color or called(kind.first, n) for n, color in zip(kind.bands, kind.colors, strict=True))


def _names_for_all(kinds: Sequence[_Alike], usual: _Alike, recipe: Recipe) -> str:
    """Names that find the same bands in all of them, as far as there are such."""
    names = (*RGB, *usual.colors[3:]) if {*usual.colors[:3]} == {*RGB} else usual.colors
    by_name = dataclasses.replace(recipe, band_names=names)
    lacking = [
        scene for kind in kinds if not all(names) or not _has(kind.first, by_name) for scene in kind.scenes
    ]
    if not lacking:
        return f"give `bands` by name, as in [{', '.join(names)}]"
    return f"no names find the same bands in all ({examples(lacking)}): give each kind a job of its own"


def _has(scene: Scene, by_name: Recipe) -> bool:
    try:
        bands_of(scene, by_name)
    except NoBandError:
        return False
    return True


def _other_orders(kinds: Sequence[_Alike]) -> Iterator[str]:
    """Most networks of three bands take red, green, blue, and few jobs turn files that are so.

    Of more bands blue, green, red is the usual order, unless the job has turned them.
    """
    turned: dict[tuple[str, ...], list[_Alike]] = {}
    for kind in kinds:
        is_turned = kind.colors[:3] == BLUE_FIRST and kind.bands[0] > kind.bands[2]
        if is_turned or (len(kind.bands) == 3 and _differs(kind.colors, RGB)):
            turned.setdefault((_in_words(kind), *map(str, kind.bands)), []).append(kind)
    for alike in turned.values():
        first, scenes = alike[0], [scene for kind in alike for scene in kind.scenes]
        order = ", ".join(_in_words(first).split(", ")[:3])
        yield (
            f"bands: the network gets {order} (bands {', '.join(map(str, first.bands[:3]))}) of "
            f"{count_of(scenes)} ({examples(scenes)}); if it was trained on red, green, blue, "
            f"{_turned_back(alike)}"
        )


def _turned_back(alike: Sequence[_Alike]) -> str:
    """What gives the network red, green, blue of these, and what says that their order is meant."""
    first = alike[0]
    found = {red_green_blue(kind.first) for kind in alike}
    meant = f"; if {_in_words(first)} is meant, say bands: [{', '.join(first.colors)}]"
    meant = meant if all(first.colors) and first.colors[:3] != BLUE_FIRST else ""
    if () in found:
        missing = [color for color in RGB if color not in first.colors]
        lack = f"they have no {' and no '.join(missing)}" if missing else "they have one of these twice"
        return f"they cannot be segmented by it: {lack}{meant}"
    if len(found) > 1:
        return f"set bands: [{', '.join(RGB)}]{meant}"
    numbers = (*found.pop(), *first.bands[3:])
    return f"set bands: [{', '.join(map(str, numbers))}]{meant}"
