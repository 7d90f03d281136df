"""The job file's keys, and what they say of each other."""

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from batchseg.job import schema_parts
from batchseg.job.settings import Fit
from batchseg.models.package import EngineName, Precision


class JobFile(schema_parts.Strict):
    inputs: (
        schema_parts.Input
        | Annotated[list[schema_parts.Input], Field(min_length=1)]
        | Annotated[dict[schema_parts.InputName, schema_parts.Input], Field(min_length=1)]
    )
    model: Annotated[str, Field(min_length=1)] | schema_parts.Model
    output: str
    bands: list[int] | None = None
    tile_size: int | None = Field(default=None, ge=8, le=8192)
    halo: int = Field(default=64, ge=0)
    scale: Literal["transforms", "metadata"] | schema_parts.Divide | schema_parts.Stretch = "transforms"
    normalize: Literal["model", "none"] | schema_parts.Normalize = "model"
    nodata: schema_parts.Number | Literal["source", "none"] = "source"
    classes: list[schema_parts.ClassName | schema_parts.Class] = Field(default_factory=list)
    num_classes: int | None = Field(default=None, ge=1, le=65535)
    confidence: bool = False
    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
    regions: bool | schema_parts.Regions = True
    engine: EngineName | Literal["auto"] | None = None
    precision: Precision | Literal["auto"] | None = None
    bake: bool = True
    gate: schema_parts.Gate = schema_parts.Gate()
    device: Literal["auto", "cpu", "gpu"] = "auto"
    executor: Literal["ray", "inline"] = "ray"
    ray_address: str | None = None
    workers: int | None = Field(default=None, ge=1)
    gpus_per_worker: schema_parts.Number = Field(default=1.0, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    shard_tiles: int | None = Field(default=None, ge=1)
    max_in_flight: int | str | None = None
    lease_timeout: schema_parts.Number = Field(default=600.0, gt=0)
    deadline: str | None = None
    stop_after: int = Field(default=10, ge=2)
    allow_empty: bool = False
    allow_vrt: bool = False
    storage: dict[Literal["s3", "gs", "az", "http"], dict[str, Any]] = Field(default_factory=dict)
    aoi: Annotated[str, Field(min_length=1)] | schema_parts.Area | None = None
    on_bad_block: Literal["quarantine", "nodata"] = "quarantine"
    min_age: schema_parts.Number | str = 0.0
    fit: Fit | None = None
    rules: list[schema_parts.Rule] | None = None
    pixel_size: schema_parts.Finite | None = Field(default=None, gt=0)
    masks: Literal["all", "failed", "none"] | None = None
    mask_format: Literal["png", "tif"] | None = None
    same_content: bool | None = None

    @property
    def of_photographs(self) -> bool:
        return any(getattr(self, key) is not None for key in OF_PHOTOGRAPHS)

    @field_validator("min_age")
    @classmethod
    def _min_age_is_duration(cls, age: float | str) -> float:
        seconds = duration(age) if isinstance(age, str) else age
        if seconds is None or not 0 <= seconds < float("inf"):
            msg = f"{age!r} is no duration such as 90s, 10m or 2h, nor a number of seconds"
            raise ValueError(msg)
        return seconds

    @field_validator("deadline")
    @classmethod
    def _deadline_is_time(cls, deadline: str | None) -> str | None:
        if deadline is not None:
            seconds_until(deadline, dt.datetime.now())
        return deadline

    @field_validator("bands")
    @classmethod
    def _bands_from_one(cls, bands: list[int] | None) -> list[int] | None:
        if bands is not None and (not bands or min(bands) < 1):
            msg = "bands are numbered from 1; give at least one, such as [1, 2, 3]"
            raise ValueError(msg)
        return bands

    @field_validator("rules")
    @classmethod
    def _rules_differ(cls, rules: list[schema_parts.Rule] | None) -> list[schema_parts.Rule] | None:
        titles = [rule.title for rule in rules or ()]
        twice = next((title for number, title in enumerate(titles) if title in titles[:number]), None)
        if twice is not None:
            msg = f"two rules are called {twice!r}; give each a `name` of its own"
            raise ValueError(msg)
        return rules

    @model_validator(mode="after")
    def _suits_photographs(self) -> "JobFile":
        unsuited = _unsuited(self) if self.of_photographs else None
        if unsuited is not None:
            raise ValueError(unsuited)
        if self.fit == "resize":
            self.halo = 0
        return self

    @model_validator(mode="after")
    def _halo_leaves_core(self) -> "JobFile":
        if self.tile_size is not None and self.tile_size <= 2 * self.halo:
            raise ValueError(no_core(self.tile_size, self.halo))
        return self


OF_PHOTOGRAPHS = ("fit", "rules", "pixel_size", "masks", "mask_format", "same_content")
"""Any of them says that the inputs are photographs."""


def _unsuited(job: JobFile) -> str | None:
    """Which key contradicts that the inputs are photographs, and why; None where all go together."""
    checks = {
        "aoi": (job.aoi is not None, "photographs have no place; rules have `region_of_interest`"),
        "scale": (job.scale == "metadata", "photographs say no reflectance; divide or stretch their values"),
        "nodata": (
            isinstance(job.nodata, float),
            "every pixel of a photograph counts; rules have `region_of_interest`",
        ),
        "on_bad_block": (job.on_bad_block == "nodata", "photographs are decoded as a whole; leave it out"),
        "shard_tiles": (job.shard_tiles is not None, "photographs are recorded as a whole; leave it out"),
        "inputs": (
            _has_scenes(job.inputs),
            "photographs are one file each; name a folder, a glob or a manifest",
        ),
        "halo": (
            job.fit == "resize" and job.halo > 0 and "halo" in job.model_fields_set,
            "with fit: resize a photograph is one tile, without neighbours; leave it out",
        ),
        "compress": (
            job.compress != "deflate" and job.mask_format != "tif",
            "PNG masks are deflated; set mask_format: tif",
        ),
        "allow_vrt": (job.allow_vrt, "a photograph is never a VRT; leave it out"),
        "masks": (job.masks == "failed" and not job.rules, "nothing fails without `rules`; name some"),
    }
    said = next(key for key in OF_PHOTOGRAPHS if getattr(job, key) is not None)
    return next(
        (
            f"{key}: {why} (`{said}` says that the inputs are photographs)"
            for key, (wrong, why) in checks.items()
            if wrong
        ),
        None,
    )


def _has_scenes(inputs: Any) -> bool:
    """Whether an input says how several files make a scene."""
    given = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, list) else [inputs]
    return any(isinstance(one, schema_parts.SceneSet) for one in given)


def no_core(tile_size: int, halo: int) -> str:
    return (
        f"halo {halo} leaves no core in tile_size {tile_size} (need tile_size > 2 * halo); "
        f"raise tile_size or lower halo"
    )


def seconds_until(deadline: str, now: dt.datetime) -> float:
    """Seconds from `now` to the next `HH:MM`, or those of a duration such as `90m`, `7.5h`, `30s`.

    >>> seconds_until("06:00", dt.datetime(2026, 3, 1, 22, 30))
    27000.0
    >>> seconds_until("1.5h", dt.datetime(2026, 3, 1))
    5400.0
    """
    if match := re.fullmatch(r"(\d{1,2}):(\d{2})", deadline):
        hour, minute = int(match[1]), int(match[2])
        if hour < 24 and minute < 60:
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            then += dt.timedelta(days=then <= now)
            # Through timestamps: in the nights when clocks are changed an hour less or more lies between.
            return then.timestamp() - now.timestamp()
    elif (seconds := duration(deadline)) is not None:
        return seconds
    msg = f"deadline {deadline!r} is neither a time of day such as '06:00' nor a duration such as 90m or 7.5h"
    raise ValueError(msg)


def duration(text: str) -> float | None:
    """Seconds of `90s`, `10m` or `1.5h`; None where the text is no such."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else None
