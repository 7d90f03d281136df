"""The `transforms` of a deploy file, as PaddleSeg's `paddleseg.transforms` understands them.

Defaults and meaning are PaddleSeg 2.8's. Steps that change the number of pixels come first in what is
returned: resizing commutes with normalisation, and the value of a padding after it is translated back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, get_args

from batchseg.errors import ModelError
from batchseg.models.package import (
    Geometry,
    Interpolation,
    LimitLong,
    Normalize,
    Padding,
    Resize,
    ResizeByLong,
    ResizeByShort,
)
from batchseg.system.excerpt import excerpt

DEFAULT_MEAN = DEFAULT_STD = 0.5
"""Of PaddleSeg's Normalize, for every band."""

LARGEST_SIDE = 2**16
"""Pixels: a tile of such sides is larger than any machine's memory."""

LARGEST_NUMBER = 2.0**127
"""What a network's float32 holds, and more than any limit on a size needs."""

TRAINING_ONLY = frozenset(
    {
        "GenerateInstanceTargets",
        "RandomAffine",
        "RandomBlur",
        "RandomCenterCrop",
        "RandomDistort",
        "RandomHorizontalFlip",
        "RandomNoise",
        "RandomPaddingCrop",
        "RandomRotation",
        "RandomScaleAspect",
        "RandomVerticalFlip",
        "ResizeRangeScaling",
        "ResizeStepScaling",
        "ScalePadding",
    }
)
"""They draw random numbers or change labels."""

LABELS_ONLY = "AddMultiLabelAuxiliaryCategory"


@dataclass(slots=True)
class _Step:
    """One entry of the list; each value is taken once, so that what nobody takes can be named."""

    kind: str
    values: dict[str, Any]
    where: str
    taken: set[str] = field(default_factory=lambda: {"type"})

    def take(self, key: str, default: Any = None) -> Any:
        self.taken.add(key)
        return self.values.get(key, default)

    def refuse(self, key: str, expected: str) -> NoReturn:
        found = excerpt(self.values.get(key))
        msg = f"model: {self.where}: {self.kind} wants {expected} for {key}, found {found}"
        raise ModelError(msg)

    def check_all_taken(self) -> None:
        if unknown := sorted(set(self.values) - self.taken, key=str):
            known = ", ".join(sorted(self.taken))
            msg = f"model: {self.where}: {self.kind} has no key {excerpt(unknown[0])}; it has {known}"
            raise ModelError(msg)

    def whole(self, key: str, *, needed: bool = False, at_most: float = LARGEST_SIDE) -> int | None:
        value = self.take(key)
        if value is None and not needed:
            return None
        if not _is_number(value) or not 1 <= value <= at_most or value != int(value):
            self.refuse(key, f"a whole number of at most {at_most:,} pixels")
        return int(value)

    def size_hw(self, default_wh: tuple[int, int] | None = None) -> tuple[int, int]:
        """PaddleSeg's target_size is (width, height)."""
        value = self.take("target_size", default_wh)
        pair = [value, value] if isinstance(value, int) else value
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_whole(v) for v in pair):
            self.refuse("target_size", "[width, height]")
        return pair[1], pair[0]

    def numbers(self, key: str, default: Any) -> tuple[float, ...]:
        value = self.take(key, default)
        if not isinstance(value, list | tuple) or not all(_is_number(v) for v in value):
            self.refuse(key, "a list of numbers")
        return tuple(float(v) for v in value)


def read_transforms(transforms: Any, where: str) -> tuple[tuple[Geometry, ...], Normalize | None]:
    """Geometry and normalisation of a list of transforms.

    Args:
        transforms: what stands in the file; None counts as an empty list.
        where: the file, for messages.

    Raises:
        ModelError: a transform is not known, has another form, or would run twice.
    """
    if not isinstance(transforms, list | None):
        msg = f"model: {where}: transforms wants a list, found {excerpt(transforms)}"
        raise ModelError(msg)
    geometry: list[Geometry] = []
    normalize = None
    for step in (_step(item, where) for item in transforms or []):
        if step.kind == LABELS_ONLY:
            continue
        if step.kind != "Normalize":
            geometry.append(
                _padding(step, normalize) if step.kind == "Padding" else _RESIZES[step.kind](step)
            )
        elif normalize is None:
            normalize = _normalize(step)
        else:
            msg = f"model: {where} asks for Normalize twice; put both into one"
            raise ModelError(msg)
        step.check_all_taken()
    return tuple(geometry), normalize


def _step(item: Any, where: str) -> _Step:
    kind = item.get("type") if isinstance(item, dict) else item
    if (
        isinstance(item, dict)
        and isinstance(kind, str)
        and kind in (*_RESIZES, "Padding", "Normalize", LABELS_ONLY)
    ):
        return _Step(kind, item, where)
    if isinstance(kind, str) and kind in TRAINING_ONLY:
        msg = f"model: {where} asks for the transform {excerpt(kind)}, which is for training; remove it there"
    else:
        msg = (
            f"model: {where} asks for the transform {excerpt(kind)}; batchseg knows Normalize, "
            f"{', '.join(_RESIZES)} and Padding. Export the model without it, or remove it there if tiles of "
            f"the job's tile_size need no such step"
        )
    raise ModelError(msg)


def _normalize(step: _Step) -> Normalize:
    mean, std = step.numbers("mean", ()), step.numbers("std", ())
    if 0 in std:
        step.refuse("std", "numbers other than 0")
    return Normalize(mean=mean, std=std)


def _resize(step: _Step) -> Resize:
    interp = str(step.take("interp", "LINEAR")).lower()
    if interp not in get_args(Interpolation):
        step.refuse("interp", "NEAREST, LINEAR, CUBIC, AREA or LANCZOS4")
    return Resize(
        target_hw=step.size_hw((512, 512)),
        keep_ratio=bool(step.take("keep_ratio", False)),
        size_divisor=step.whole("size_divisor"),
        interp=interp,  # type: ignore[arg-type]  # among Interpolation's, see above
    )


def _resize_by_short(step: _Step) -> ResizeByShort:
    short = step.whole("short_size", needed=True)
    longest = step.take("max_size")
    if longest in (None, math.inf):
        return ResizeByShort(short_size=short or 0)
    if not _is_number(longest) or longest < 1:
        step.refuse("max_size", "a number of pixels")
    return ResizeByShort(short_size=short or 0, max_size=int(longest))


def _resize_by_long(step: _Step) -> ResizeByLong:
    return ResizeByLong(long_size=step.whole("long_size", needed=True) or 0)


def _limit_long(step: _Step) -> LimitLong:
    limit = LimitLong(
        max_long=step.whole("max_long", at_most=LARGEST_NUMBER), min_long=step.whole("min_long")
    )
    if limit.max_long and limit.min_long and limit.min_long > limit.max_long:
        step.refuse("min_long", f"at most max_long ({limit.max_long})")
    return limit


_RESIZES: dict[str, Callable[[_Step], Geometry]] = {
    "Resize": _resize,
    "ResizeByShort": _resize_by_short,
    "ResizeByLong": _resize_by_long,
    "LimitLong": _limit_long,
}


def _padding(step: _Step, normalize: Normalize | None) -> Padding:
    """A padding after Normalize holds normalised values; they are what 0..255 would have become."""
    step.take("label_padding_value")
    given = step.take("im_padding_value", 127.5)
    values = tuple(given) if isinstance(given, list) else (given,)
    if not values or not all(_is_number(value) for value in values):
        step.refuse("im_padding_value", "a number, or one per band")
    if normalize is not None:
        mean, std = normalize.mean or (DEFAULT_MEAN,), normalize.std or (DEFAULT_STD,)
        count = max(len(mean), len(std), len(values))
        if any(len(v) not in (1, count) for v in (mean, std, values)):
            step.refuse("im_padding_value", f"1 or {count} numbers")
        rows = zip(*(v * count if len(v) == 1 else v for v in (values, mean, std)), strict=True)
        values = tuple((value * s + m) * 255 for value, m, s in rows)
    return Padding(target_hw=step.size_hw(), value=tuple(float(v) for v in values))


def _is_number(value: Any) -> bool:
    """Of no NaN, too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SIDE
