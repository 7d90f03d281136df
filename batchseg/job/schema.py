"""The job file's keys, and what they say of each other."""

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from batchseg.job import schema_parts, schema_values
from batchseg.job.resolution import MAX_RATIO, Resolution
from batchseg.job.schema_photographs import SAYS_PHOTOGRAPHS, for_photographs, unsuited_photographs
from batchseg.job.settings import Augmentation, Blend, Fit
from batchseg.models.package import EngineName, Precision

LARGEST_TILE = 8192
"""Pixels per side."""


class JobFile(schema_parts.Strict):
    """A job file as it is written. docs/jobs.md shows what stands below its keys."""

    inputs: (
        schema_parts.Input
        | Annotated[list[schema_parts.Input], Field(min_length=1)]
        | Annotated[dict[schema_parts.InputName, schema_parts.Input], Field(min_length=1)]
    )
    """What is read: a file, a folder, a glob, a manifest, scenes of several files, products of Landsat or
    Sentinel-2, a list of such, or a mapping of names to such. [Inputs](#inputs) says more.
    """
    model: Annotated[str, Field(min_length=1)] | schema_parts.Model
    """The network: a folder with `NAME.json` or `NAME.pdmodel` and `NAME.pdiparams`, an `.onnx` file,
    OpenVINO's `.xml`, or a folder with one. `{path: ...}` adds [what its files do not say](#keys-of-model).
    """
    output: str
    """A folder on a disk or in a bucket (`s3://bucket/results`)."""
    bands: list[int | str] | None = None
    """Band numbers from 1, or [names](scenes.md#bands) such as `[red, green, blue]`, in the model's order.
    All bands if not set. A band given here is data, even if the file tags it as alpha.
    """
    tile_size: Annotated[int, Field(ge=8, le=LARGEST_TILE)] | Literal["auto"] = "auto"
    """Pixels per side of the model's input. `auto`: [found by trials](engines.md#without-knobs); without them
    the model's own size, or what its owner advises, else 512; four halos where `halo` leaves less than a
    quarter of that."""
    halo: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Pixels dropped on each side of a tile. It and the core (`tile_size` less two halos) must be multiples
    of the network's stride. `auto`: [as wide as the network needs](models.md#halo-and-seams); where none is
    wide enough, or no trials are made, what the model's owner advises, else 64, at most a quarter of the
    tile.
    """
    blend: Blend = "none"
    """How neighbouring tiles are joined: cut at the border of their cores, or [faded into each
    other](models.md#blending) by weights that are `linear` or half of a `hann` window. Needs scores.
    """
    overlap: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """What two tiles share for `blend`, beyond their halos: pixels, or a share of the tile (below 0.5), which
    is rounded to twice the network's stride. An eighth of the tile if not set.
    """
    probabilities: bool | Annotated[list[str | int], Field(min_length=1)] = False
    """Write [a COG of the probabilities](outputs.md#probabilities) of all classes, or of those that are
    named: a band per class, 1..255 for 0..1, 0 without data.
    """
    threshold: dict[str | int, Annotated[schema_parts.Number, Field(gt=0, le=1)]] = Field(
        default_factory=dict
    )
    """The least probability by which a class wins, by its name: `{water: 0.7}`. Where it stays below, the
    best of the other classes is taken; where every class stays below its own, the pixel is `unknown`. A model
    of one band has `model: {threshold: 0.5}`.
    """
    ignore_below: Annotated[schema_parts.Number, Field(gt=0, lt=1)] | None = None
    """Pixels whose best class is less probable become class `unknown`, whose id follows the model's own."""
    tta: Augmentation = "none"
    """Test-time augmentation: show each tile mirrored (`flips`, 4 times the work of the network) or turned as
    well (`d4`, 8 times), and average the probabilities.
    """
    scale: Literal["transforms", "metadata"] | schema_parts.Divide | schema_parts.Stretch = "transforms"
    """How raw values become the model's unit. `transforms`: as the model's Normalize says (it divides uint8
    by 255; without it values go in as they are; `batchseg plan` shows which). `metadata`: reflectance, by
    [each scene's own scale and offset](scenes.md#reflectance). `{divide: 10000}`. `{stretch: [low, high]}`:
    clipped to 0..1, with one number or one per band.
    """
    normalize: Literal["model", "none"] | schema_parts.Normalize = "model"
    """`model`: as `deploy.yaml` or `inference.yml` says. `{mean: [...], std: [...]}`: a number per band.
    Without a `deploy.yaml` nothing says how the input was normalised, and the job must.
    """
    check_values: bool = True
    """Look at samples of the data before anything is predicted, and at each source where it is read, and
    refuse values that [cannot be meant](scenes.md#values); a photograph of other values than the first ones
    [is no PASS](photographs.md#other-values). `false`: they are meant; what the network gets is shown all the
    same.
    """
    check_seams: bool = True
    """Predict a few tiles of scenes again, moved by half of their core, and say [how many pixels depend on
    where tiles lie](outputs.md#seams). It costs 2 % of the time at most, of long runs 0.5 %.
    """
    nodata: schema_parts.Number | Literal["source", "none"] = "source"
    """`source`: what the files say (nodata values, masks, alpha). A number, where the files do not say it;
    what they say [counts too](scenes.md#nodata). `none`: every pixel counts.
    """
    classes: list[schema_parts.ClassName | schema_parts.Class] = Field(default_factory=list)
    """Names, or `{name: water, color: "#2b6cb0"}`, by class id; the model's own if empty."""
    num_classes: int | None = Field(default=None, ge=1, le=65535)
    """For models that give class ids above 254: the mask becomes uint16. Otherwise the model says it."""
    confidence: bool = False
    """Write a second COG with the winning class's probability, 1..255. The model must give scores."""
    result: Literal["classes", "values"] = "classes"
    """What the network tells of a pixel: its class, or [a number](outputs.md#values), such as an anomaly
    score, a height or a fraction."""
    values: schema_values.Values | None = None
    """How numbers are stored, and [from which one on](#keys-of-values) a pixel is of class 1; needs
    `result: values`."""
    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
    """Compression of the masks."""
    merge: dict[schema_parts.ClassName, Annotated[list[str | int], Field(min_length=2)]] = Field(
        default_factory=dict
    )
    """Classes that [become one](outputs.md#clean-masks), such as `{built: [building, road]}`. `regions` and
    `rules` name that one; `threshold` and `probabilities` are of the model's own classes.
    """
    sieve: int | None = Field(default=None, ge=2)
    """Regions of fewer pixels [take the class of a neighbour](outputs.md#clean-masks), after `merge`; all
    stay if not set."""
    regions: bool | schema_parts.RegionKeys = True
    """Write polygons of the mask as GeoParquet. A mapping says [which regions](#keys-of-regions)."""
    engine: EngineName | Literal["auto"] = "auto"
    """What runs the network. `auto` [takes the fastest that answers as the model's own
    does](engines.md#without-knobs), which is `paddle` for Paddle models and `onnxruntime` for ONNX files.
    Another that is named must pass the `gate` too.
    """
    precision: Precision | Literal["auto"] = "auto"
    """`bf16` needs a CPU with fast bf16, `fp16` a GPU. For `int8` a model that does not arrive so is
    [quantised for the output](engines.md#int8-and-truth). `auto` takes the fastest that passes the `gate`.
    """
    bake: bool = True
    """Casting, normalisation, argmax and confidence become part of the graph where the model allows it.
    `false` is faster on CPUs where classes are many and the halo is wide: a graph classifies the halo too.
    """
    gate: schema_parts.Gate = schema_parts.Gate()
    """How near to the reference an engine must come that is not the model's own, and [how it is
    tried](#keys-of-gate).
    """
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes a GPU where the model's engine finds one."""
    executor: Literal["auto", "processes", "ray", "inline"] = "auto"
    """`processes` spreads the work over processes of this machine, which predict on CPUs; `ray` over GPUs,
    and over the hosts of a cluster. `auto` takes `ray` where there is a `ray_address` or a GPU (and `device`
    is not `cpu`), else `processes`. `inline` does every step in the calling process.
    """
    ray_address: str | None = None
    """The address of a Ray cluster. If not set, `executor: ray` starts a local one and ends it."""
    workers: int | None = Field(default=None, ge=1)
    """Predictors. If not set, one per core; on GPU machines one per GPU. In a container by its limits
    (cgroups): its CPUs, rounded up, and 1 GiB of its memory for each."""
    gpus_per_worker: schema_parts.Number = Field(default=1.0, gt=0)
    """GPUs that a predictor takes; may be a fraction."""
    batch_size: int | None = Field(default=None, ge=1)
    """Tiles per run of the model: 1 if not set, 2 in bf16 up to tiles of 512; of small photographs more. On
    CPUs larger batches gain little or nothing, and engines other than Paddle get one tile at a time.
    """
    shard_tiles: int | None = Field(default=None, ge=1)
    """Tiles per side of a shard, the unit of the ledger. If not set, about half a second of work."""
    max_in_flight: int | str | None = None
    """Bytes of pixels between reading and writing, such as `2GiB`. If not set, by the number of workers."""
    lease_timeout: schema_parts.Number = Field(default=600.0, gt=0)
    """Seconds after which a step that does not answer is given up."""
    deadline: str | None = None
    """When the run stops: `06:00`, `7.5h`, `90m`."""
    stop_after: int = Field(default=10, ge=2)
    """Sources in a row that the storage does not give, or over which processes end, with the same error: then
    the run stops and blames none of them."""
    allow_empty: bool = False
    """Accept an input that matches nothing. Otherwise that is an error: it may be an unmounted disk."""
    allow_vrt: bool = False
    """Open VRT files, which read whatever local files they name. Nothing is fetched from the network for
    them.
    """
    storage: dict[Literal["s3", "gs", "az", "http"], dict[str, Any]] = Field(default_factory=dict)
    """Options by protocol: `{s3: {endpoint: "http://minio:9000", anonymous: true, profile: archive}}`.
    fsspec's client gets all [other options](storage.md).
    """
    aoi: Annotated[str, Field(min_length=1)] | schema_parts.Area | None = None
    """A vector file of polygons, or `{file: ..., layer: ...}`. What lies outside is not read, not predicted,
    and nodata: [area of interest](scenes.md#area-of-interest).
    """
    resolution: Annotated[schema_parts.Finite, Field(gt=0)] | Literal["any", "model"] | str | None = None
    """At which [resolution](scenes.md#resolution) scenes are read: metres of a pixel's side on the ground,
    degrees (`"0.00001 deg"`), or `model`, what the model's files say. If not set, scenes are read as they
    are, and those quite unlike the model's are refused; `any` takes them all as they are.
    """
    mask_resolution: Literal["scene", "model"] = "scene"
    """Of scenes that `resolution` brings to another one: masks on the `scene`'s own grid, or as the `model`
    saw it."""
    max_ratio: schema_parts.Finite = Field(default=MAX_RATIO, ge=1)
    """Scenes whose pixels are more than this many times larger or smaller than `resolution` are refused."""
    on_bad_block: Literal["quarantine", "nodata"] = "quarantine"
    """What becomes of a GeoTIFF with a block that cannot be decoded. `quarantine` refuses the scene; `nodata`
    does it, and [such blocks are nodata](scenes.md#damaged-blocks).
    """
    min_age: schema_parts.Number | str = 0.0
    """A run leaves files that changed less than this ago to a later one: `90s`, `10m`, `2h`, or seconds."""
    fit: Fit | None = None
    """The inputs are [photographs](photographs.md). `tile` cuts them as scenes are cut; `resize` brings the
    whole image to the model's input, and there is no `halo` then.
    """
    rules: list[schema_parts.Rule] | None = None
    """When a photograph fails: a list of [rules](photographs.md#rules). They too say that the inputs are
    photographs; the keys below need `fit` or `rules`.
    """
    pixel_size: schema_parts.Finite | None = Field(default=None, gt=0)
    """Millimetres per pixel of a photograph."""
    masks: Literal["all", "failed", "none"] | None = None
    """Which photographs' masks are kept: `all` if not set, `failed` (all that are no PASS) or `none`."""
    mask_format: Literal["png", "tif"] | None = None
    """Format of photographs' masks, `png` if not set."""
    same_content: bool | None = None
    """Hash photographs, and do not predict one again that is known under another name. `false` if not set."""
    max_photo_memory: int | str | None = None
    """Memory that [one photograph](photographs.md#reading) may take, such as `4GiB`; `2GiB` if not set. One
    that needs more is quarantined before it is decoded.
    """

    @property
    def of_photographs(self) -> bool:
        return any(getattr(self, key) is not None for key in SAYS_PHOTOGRAPHS)

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

    @field_validator("resolution")
    @classmethod
    def _resolution_has_unit(cls, resolution: float | str | None) -> float | str | None:
        if isinstance(resolution, str) and resolution not in ("any", "model"):
            Resolution.of(resolution)
        return resolution

    @field_validator("bands")
    @classmethod
    def _bands_from_one(cls, bands: list[int | str] | None) -> list[int | str] | None:
        if bands is None:
            return None
        numbers = [band for band in bands if isinstance(band, int)]
        if not bands or any(number < 1 for number in numbers):
            msg = "bands are numbered from 1; give at least one, such as [1, 2, 3]"
            raise ValueError(msg)
        if numbers and len(numbers) < len(bands):
            msg = f"bands go all by number or all by name; found {', '.join(map(str, bands))}"
            raise ValueError(msg)
        if not numbers and not all(str(band).strip() for band in bands):
            msg = "a band's name is empty; give names such as [red, green, blue]"
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
    def _suits_executor(self) -> "JobFile":
        if self.executor == "processes" and self.ray_address is not None:
            msg = "executor: processes is of this machine alone; leave ray_address out, or set executor: ray"
            raise ValueError(msg)
        if self.executor == "processes" and self.device == "gpu":
            msg = "executor: processes predicts on CPUs; set executor: ray for GPUs, or device: cpu"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _overlap_suits_blend(self) -> "JobFile":
        if self.overlap is not None and self.blend == "none":
            msg = "overlap: is what tiles share for blending; set blend: hann, or leave overlap out"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _suits_resolution(self) -> "JobFile":
        key = next((k for k in ("mask_resolution", "max_ratio") if k in self.model_fields_set), None)
        if key is not None and self.resolution in (None, "any"):
            msg = f"{key}: is of scenes that are read at another resolution; set `resolution` too"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _suits_values(self) -> "JobFile":
        unsuited = schema_values.unsuited_values(self)
        if unsuited is not None:
            raise ValueError(unsuited)
        return self

    @model_validator(mode="after")
    def _suits_photographs(self) -> "JobFile":
        unsuited = unsuited_photographs(self) if self.of_photographs else for_photographs(self)
        if unsuited is not None:
            raise ValueError(unsuited)
        if self.fit == "resize":
            self.halo = 0
        return self


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
