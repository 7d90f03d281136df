"""What is odd about a run's scenes, in words: such a night ends well and may still be wrong.

`plan` shows it, a run says it when it begins, and its report repeats it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchseg.driver.plan import Plan
from batchseg.driver.scene_area import area_warning
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.pixels.bands import bands_of, called, color_of, describe_bands
from batchseg.pixels.fit import WARNED_FACTOR, factor, impossible_nodata
from batchseg.pixels.ground import body, ground_resolution

SHOWN = 3
"""Examples of scenes in one warning."""

BLUE_FIRST = ("blue", "green", "red")

LAYOUTS_SHOWN = 5
"""Different kinds of bands that a plan shows."""


def scene_warnings(plan: Plan, recipe: Recipe) -> tuple[str, ...]:
    """A line for each thing that is odd about the scenes of a plan."""
    scenes = [job.scene for job in plan.jobs if not job.is_outside]
    found = [
        area_warning(plan, recipe),
        *_resolution(scenes, recipe),
        *_bands(scenes, recipe),
        _nodata(scenes, recipe),
        _bodies(scenes),
        _places(scenes),
    ]
    return tuple(filter(None, found))


def describe_scenes(plan: Plan, recipe: Recipe) -> tuple[str, ...]:
    """Lines on the scenes' bands and the size of their pixels, each behind the name of what it is about."""
    scenes = [job.scene for job in plan.jobs]
    if not scenes:
        return ()
    kinds: dict[str, list[Scene]] = {}
    for scene in scenes:
        kinds.setdefault(describe_bands(scene), []).append(scene)
    layouts = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    lines = [f"bands    {words}: {_count(alike)}" for words, alike in layouts[:LAYOUTS_SHOWN]]
    if len(layouts) > LAYOUTS_SHOWN:
        lines.append(f"         and {len(layouts) - LAYOUTS_SHOWN} other kinds of scenes")
    lines.append(f"         the network gets {', '.join(map(str, recipe.band_names or recipe.bands))}")
    made_for = f"; the model was made for {recipe.resolution:.3g} m" if recipe.resolution else ""
    sizes = [size for scene in scenes if (size := ground_resolution(scene)) is not None]
    if not sizes:
        return (*lines, f"ground   nothing says how large the pixels are{made_for}")
    least, most = (f"{size:.3g}" for size in (min(sizes), max(sizes)))
    between = least if least == most else f"{least} to {most}"
    return (*lines, f"ground   {between} m per pixel{made_for}")


def _examples(scenes: Sequence[Scene]) -> str:
    names = [scene.source.source_id for scene in scenes[:SHOWN]]
    return ", ".join([*names, "..."] if len(scenes) > SHOWN else names)


def _resolution(scenes: Sequence[Scene], recipe: Recipe) -> Iterator[str]:
    made_for = recipe.resolution
    if made_for is None:
        return
    sizes = [(ground_resolution(scene), scene) for scene in scenes]
    begin = f"resolution: the model was made for pixels of {made_for:.3g} m; "
    far = [(factor(size, made_for), size, scene) for size, scene in sizes if size]
    far = [each for each in far if each[0] > WARNED_FACTOR]
    if far:
        _, size, scene = max(far, key=lambda each: each[0])
        yield (
            f"{begin}{len(far)} of {_count(scenes)} have others ({scene.source.source_id}: {size:.3g} m), in "
            f"which all things have another size; resample them (gdalwarp -tr)"
        )
    unknown = [scene for size, scene in sizes if size is None]
    if unknown:
        yield (
            f"{begin}nothing says how large those of {len(unknown)} of {_count(scenes)} are "
            f"({_examples(unknown)})"
        )


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


def _bands(scenes: Sequence[Scene], recipe: Recipe) -> Iterator[str]:
    by_look: dict[tuple[tuple[str, ...], ...], list[Scene]] = {}
    for scene in scenes:
        by_look.setdefault((scene.band_names, scene.colors), []).append(scene)
    kinds = [_Alike(scenes=alike, bands=bands_of(alike[0], recipe)) for alike in by_look.values()]
    for kind in kinds:
        colors = kind.first.colors
        if palette := next((n for n in kind.bands if colors and colors[n - 1] == "palette"), 0):
            yield (
                f"bands: {called(kind.first, palette)} of {_count(kind.scenes)} ({_examples(kind.scenes)}) "
                f"holds places in a table of colours, no brightness; `gdal_translate -expand rgb` makes "
                f"colours of it"
            )
    known = [kind for kind in kinds if len(set(BLUE_FIRST) & set(kind.colors)) > 1]
    counts: dict[tuple[str, ...], int] = {}
    for kind in known:
        counts[kind.colors] = counts.get(kind.colors, 0) + len(kind.scenes)
    usual = max(known, key=lambda kind: counts[kind.colors], default=None)
    others = [scene for kind in known if usual and _differs(kind, usual) for scene in kind.scenes]
    if usual and others:
        yield (
            f"bands: the network gets {_in_words(usual)} of {_examples(usual.scenes)}, and another order of "
            f"{_count(others)} ({_examples(others)}); give `bands` by name, as in [red, green, blue]"
        )
    elif not recipe.band_names:
        yield from _blue_first(kinds)


def _differs(one: _Alike, other: _Alike) -> bool:
    pairs = zip(one.colors, other.colors, strict=True)
    return any(mine and yours and mine != yours for mine, yours in pairs)


def _in_words(kind: _Alike) -> str:
    return ", ".join(color or called(kind.first, n) for n, color in zip(kind.bands, kind.colors, strict=True))


def _blue_first(kinds: Sequence[_Alike]) -> Iterator[str]:
    """Most networks of three bands take red first, and few jobs turn files that are red, green and blue."""
    turned = [
        kind
        for kind in kinds
        if kind.colors[:3] == BLUE_FIRST and (len(kind.bands) == 3 or kind.bands[0] > kind.bands[2])
    ]
    if turned:
        bands, scenes = turned[0].bands, [scene for kind in turned for scene in kind.scenes]
        other = ", ".join(map(str, (*bands[2::-1], *bands[3:])))
        yield (
            f"bands: the network gets blue, green, red (bands {', '.join(map(str, bands[:3]))}) of "
            f"{_count(scenes)} ({_examples(scenes)}); if it was trained on red, green, blue, set "
            f"bands: [{other}]"
        )


def _nodata(scenes: Sequence[Scene], recipe: Recipe) -> str:
    if recipe.nodata != "source":
        return ""
    kinds: dict[tuple[object, ...], list[Scene]] = {}
    for scene in scenes:
        if any(value is not None for value in scene.nodata):
            kinds.setdefault((scene.dtypes, scene.nodata), []).append(scene)
    void = [scene for alike in kinds.values() if _never_nodata(alike[0]) for scene in alike]
    if not void:
        return ""
    value = next(value for value in void[0].nodata if value is not None)
    return (
        f"nodata: the files of {_count(void)} ({_examples(void)}) name {value:.12g}, which none of their "
        f"{void[0].dtypes[0]} pixels can be; if another value stands for no data, set `nodata`"
    )


def _never_nodata(scene: Scene) -> bool:
    pairs = zip(scene.dtypes, scene.nodata, strict=True)
    return any(value is not None and impossible_nodata(dtype, value) for dtype, value in pairs)


def _bodies(scenes: Sequence[Scene]) -> str:
    by_body: dict[str, list[Scene]] = {}
    for scene in scenes:
        if where := body(scene):
            by_body.setdefault(where, []).append(scene)
    if len(by_body) < 2:
        return ""
    usual = max(by_body, key=lambda where: len(by_body[where]))
    where, others = next((where, alike) for where, alike in by_body.items() if where != usual)
    return (
        f"CRS: {_count(others)} of {where} ({_examples(others)}), {len(by_body[usual])} of {usual}; look at "
        f"what `gdalinfo` says of their CRS"
    )


def _places(scenes: Sequence[Scene]) -> str:
    lost = [scene for scene in scenes if not _has_place(scene)]
    if not lost or (len(lost) == len(scenes) and not any(_is_on_web(scene) for scene in lost)):
        return ""  # pictures that lie nowhere
    web = "; files beside a raster on a web server are not read" if any(map(_is_on_web, lost)) else ""
    return (
        f"place: nothing says where {len(lost)} of {_count(scenes)} lie ({_examples(lost)}): their masks "
        f"have no geotransform, their regions are in pixels{web}"
    )


def _has_place(scene: Scene) -> bool:
    place = scene.georeference
    return place.transform is not None or bool(place.gcps) or bool(place.rpcs)


def _is_on_web(scene: Scene) -> bool:
    return scene.source.uri.startswith(("http://", "https://"))


def _count(scenes: Sequence[object]) -> str:
    return "1 scene" if len(scenes) == 1 else f"{len(scenes)} scenes"
