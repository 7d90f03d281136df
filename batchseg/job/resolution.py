"""At which resolution scenes are read, as a job says it."""

import contextlib
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from batchseg.errors import ConfigError

MAX_RATIO = 8.0
"""Of what a scene's pixels and the model's may differ by, where the job says nothing."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """How large a pixel's side is."""

    size: float
    unit: Literal["m", "deg"] = "m"
    """Metres on the ground, or degrees of longitude and latitude."""

    @classmethod
    def of(cls, given: float | str) -> "Resolution":
        """A number of metres, or text with a unit.

        Raises:
            ValueError: the text is none.

        >>> str(Resolution.of(0.3)), str(Resolution.of("0.00001 deg"))
        ('0.3 m', '1e-05 deg')
        """
        if not isinstance(given, str):
            return cls(given)
        match = re.fullmatch(r"\s*([\d.eE+-]+)\s*(m|deg)\s*", given)
        with contextlib.suppress(ValueError):
            size = float(match[1]) if match else 0.0
            if match and 0 < size < math.inf:
                return cls(size, "m" if match[2] == "m" else "deg")
        msg = f"{given!r} is none; write metres such as 0.5, degrees such as '0.00001 deg', model or any"
        raise ValueError(msg)

    def __str__(self) -> str:
        return f"{self.size:.6g} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGrid:
    """At which resolution scenes are read, and which grid their masks have."""

    resolution: Resolution
    max_ratio: float = MAX_RATIO
    """By which either side of a scene's own pixels may be larger or smaller. It changes no pixel."""
    mask: Literal["scene", "model"] = "scene"

    @property
    def limits(self) -> str:
        """What a scene must suit, in words."""
        return f"{self.resolution} (max_ratio {self.max_ratio:g})"

    def settings(self) -> dict[str, Any]:
        """What changes pixels, in words."""
        words = {"resolution": f"{self.resolution.size!r} {self.resolution.unit}"}
        return words if self.mask == "scene" else {**words, "mask_resolution": self.mask}


def model_grid(
    asked: Resolution | Literal["any", "model"] | None,
    *,
    made_for: float | None,
    max_ratio: float,
    mask: Literal["scene", "model"],
) -> ModelGrid | None:
    """What the job's keys ask for; None: scenes are read as they are.

    Args:
        asked: the job's `resolution`.
        made_for: metres of a pixel's side, as the model's files say.
        max_ratio: the job's.
        mask: its `mask_resolution`.

    Raises:
        ConfigError: the model's own is asked for, and its files say none.
    """
    if asked is None or asked == "any":
        return None
    if asked == "model":
        if made_for is None:
            msg = (
                "resolution: model, but the model's files say none; write the metres of a pixel's side that "
                "it was made for, such as resolution: 0.5"
            )
            raise ConfigError(msg)
        asked = Resolution(made_for)
    return ModelGrid(resolution=asked, max_ratio=max_ratio, mask=mask)
