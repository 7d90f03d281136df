"""`mask` of an input: which pixels of its scenes have no data by flags, in a raster beside the bands."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from batchseg.job.products import FLAGS, Preset
from batchseg.job.settings import MaskFlags

_WHERE = {"bands": "file", "manifest": "column", "stac": "asset"}
"""Which key says where the raster is, by the kind of set."""

_EXAMPLE = {
    "bands": "{file: 'archive/{scene}/{scene}_QA_PIXEL.TIF', bits: [3, 4]}",
    "manifest": "{column: qa, bits: [3, 4]}",
    "stac": "{asset: qa_pixel, bits: [3, 4]}",
}

MOST_BITS = 32


def mask_flags(kind: str, given: Any) -> MaskFlags:
    """What a scene set's `mask` says.

    Args:
        kind: of the set.
        given: of its key, as YAML gives it.

    Raises:
        ValueError: it is none, in words.
    """
    if kind not in _WHERE:
        return _by_names("landsat" if kind == "landsat" else "sentinel2", given)
    where, example = _WHERE[kind], _EXAMPLE[kind]
    if not isinstance(given, Mapping):
        msg = f"mask: expected {example}; found {given!r}"
        raise ValueError(msg)
    known = (where, "bits", "values")
    if unknown := next((key for key in given if key not in known), None):
        msg = f"mask: {unknown}: unknown key. Known keys: {', '.join(known)}; as in {example}"
        raise ValueError(msg)
    file = given.get(where)
    if not isinstance(file, str) or not file:
        msg = f"mask: {where}: say which raster marks pixels, as in {example}"
        raise ValueError(msg)
    if kind == "bands":
        _check_pattern(file)
    ways: list[Literal["bits", "values"]] = [way for way in ("bits", "values") if given.get(way) is not None]
    if len(ways) != 1:
        msg = f"mask: say either bits or values that mark pixels, as in {example}"
        raise ValueError(msg)
    return MaskFlags(by=ways[0], numbers=_numbers(ways[0], given[ways[0]]), file=file)


def _check_pattern(file: str) -> None:
    if "{scene}" not in file:
        msg = f"mask: file: {file} has no {{scene}}, which names the scene in every pattern"
        raise ValueError(msg)
    if other := re.search(r"\{(?!scene\})[^}/]*\}?", file):
        msg = f"mask: file: {file} has {other[0]}; only {{scene}} can stand in braces"
        raise ValueError(msg)


def _numbers(way: str, given: Any) -> tuple[int, ...]:
    numbers = given if isinstance(given, list) else [given]
    if not numbers or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        msg = f"mask: {way}: expected a list of whole numbers such as [3, 4]; found {given!r}"
        raise ValueError(msg)
    if way == "bits" and not all(0 <= n < MOST_BITS for n in numbers):
        msg = f"mask: bits: they count from 0, and are below {MOST_BITS}; found {given!r}"
        raise ValueError(msg)
    return tuple(sorted({*numbers}))


def _by_names(preset: Preset, given: Any) -> MaskFlags:
    """`[clouds, shadows]`; YAML reads `{clouds, shadows}` as keys without values."""
    flags = FLAGS[preset]
    names = list(given) if isinstance(given, Mapping) and not any(given.values()) else given
    if not isinstance(names, list) or not names:
        msg = f"mask: expected a list of flags such as [clouds, shadows]; {_known(flags.numbers)}"
        raise ValueError(msg)
    if unknown := next(
        (name for name in names if not isinstance(name, str) or name not in flags.numbers), None
    ):
        near = difflib.get_close_matches(str(unknown), flags.numbers, n=1)
        hint = f"perhaps you meant {near[0]!r}; " if near else ""
        msg = f"mask: {preset} has no flag {unknown!r}; {hint}{_known(flags.numbers)}"
        raise ValueError(msg)
    numbers = {number for name in names for number in flags.numbers[name]}
    return MaskFlags(by=flags.by, numbers=tuple(sorted(numbers)), flags=tuple(sorted({*names})))


def _known(names: Collection[str]) -> str:
    return f"it has {', '.join(names)}"


def masks_in_words(masks: Sequence[MaskFlags | None]) -> list[str]:
    """What the inputs of a job mask, each once, as outputs remember it; empty where none does."""
    return sorted({mask.words for mask in masks if mask is not None})
