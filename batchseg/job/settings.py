"""A job's settings as frozen values: what flows on from the job file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from batchseg.job.resolution import MAX_RATIO, Resolution
from batchseg.models.package import ClassInfo, EngineName, ModelOptions, Normalize, Precision
from batchseg.system.redact import public


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Raw pixel values to the model's unit: `(raw - low) / (high - low)`.

    A file's `raw * scale + offset` is brought to this form too. For Sentinel-2's integers it is exact, so
    that both processing baselines give the same bits as `divide: 10000`.
    """

    kind: Literal["transforms", "divide", "stretch", "metadata"]
    """metadata: the values that mean reflectance 0 and 1 are each scene's own (`Recipe.of_scene`)."""
    low: tuple[float, ...]
    """One for all bands, or one per band."""
    high: tuple[float, ...]

    @property
    def clips(self) -> bool:
        """A stretch saturates outside low..high; a division does not."""
        return self.kind == "stretch"


Blend = Literal["none", "linear", "hann"]
"""How a tile's answer fades out towards its neighbour's: not at all, or by a ramp of that shape."""

Augmentation = Literal["none", "flips", "d4"]
"""What else a tile is shown as: mirrored (4 views), or turned as well (8)."""

Resampling = Literal["none", "nearest", "bilinear", "cubic", "average"]


MaskNames = Literal["added", "kept"]
"""Which rule names an output's masks (`output/mask_names`): a suffix is added to every source id; or what
ends in it already keeps its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFlags:
    """Which pixels of a scene have no data by another file of it: what clouds cover, say."""

    by: Literal["bits", "values", "bands"]
    """A pixel has no data where one of these bits is set, where it has one of these values, or where one of
    these bands is not 0."""
    numbers: tuple[int, ...]
    """Bits from 0, values, or bands from 1; ascending."""
    file: str = ""
    """bands: glob with {scene}; manifest: a column; stac: an asset; empty: the product's own file."""
    flags: tuple[str, ...] = ()
    """Their names, sorted, where the job says names."""

    @property
    def words(self) -> str:
        """What is masked, as outputs remember it."""
        return ", ".join(self.flags) or f"{self.by} {', '.join(map(str, self.numbers))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSet:
    """An input whose scenes have several files each."""

    kind: Literal["bands", "manifest", "stac", "landsat", "sentinel2"]
    patterns: tuple[tuple[str, str], ...] = ()
    """bands: (name, glob with {scene}), in the stack's order."""
    path: str = ""
    """manifest and stac: the file; products: a folder, or a glob of folders and files."""
    columns: tuple[str, ...] = ()
    """manifest: columns of paths; stac and products: names of assets; in the stack's order."""
    id_column: str | None = None
    """manifest: the column of names; None: the first file's relative path."""
    resampling: Resampling = "none"
    """To the finest grid of a scene's files; none: files of another grid are refused."""
    mask: MaskFlags | None = None
    """What else has no data. Its file may lie on another grid: the nearest pixel counts."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each file of a scene is called."""
        return self.columns or tuple(name for name, _ in self.patterns)

    @property
    def key(self) -> str:
        """What an output knows the input by. Resampling and mask decide pixels, not names."""
        words: dict[str, Any] = {self.kind: dict(self.patterns) if self.patterns else self.path}
        if self.kind != "bands":
            words["columns" if self.kind == "manifest" else "assets"] = list(self.columns)
        return json.dumps(words | ({"id": self.id_column} if self.id_column else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOptions:
    """Which regions of a mask become rows, and how their outlines look, as the job file says it."""

    min_area: int
    """Pixels; smaller regions make no row."""
    simplify: float
    """Pixels that an outline may move; 0 keeps every pixel's edge."""
    classes: tuple[str | int, ...] | None
    """Names or ids; None: all but class 0."""
    max_vertices: int
    """Of a region that is held in memory; one with more stays cut, its pieces sharing the region's id."""
    connectivity: int = 4
    """4, or 8: pixels that touch by their corners belong to one region too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Images and their classes, paired by name."""

    images: str
    """A folder, a glob or a manifest."""
    labels: str
    """The same: rasters of class ids, of the images' sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How near an engine that is not the model's own must come to it, and what trials may cost."""

    margin: float = 0.05
    """The reference is sure of a pixel whose two best probabilities lie further apart: those alone count."""
    equal_pixels: float = 0.9999
    """Share of the pixels that count which have the reference's class."""
    iou: float = 0.999
    """Of every class with at least 1,000 such pixels."""
    tiles: int = 8
    """Probe tiles, of the job's own data."""
    seconds: float = 1.5
    """Of steady work by which an engine's speed is measured, after every tile was predicted once."""
    truth: Truth | None = None
    """With it accuracy decides about an engine, and networks in int8 are candidates."""
    miou_drop: float = 0.005
    """By which an engine's mean IoU against the truth may be below the reference's."""
    budget: float = 20.0
    """Seconds that all trials may take, or a twentieth of the work where that is more; 0: none are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """How numbers are stored, and from which one on a pixel is of class 1."""

    dtype: Literal["float32", "uint16"] = "float32"
    scale: float = 1.0
    """uint16: the number is `stored * scale + offset`."""
    offset: float = 0.0
    threshold: float | None = None
    """What is above it is class 1; None: there are no classes, or the threshold is still to be measured."""
    percentile: float | None = None
    """By which the threshold is measured: of the highest number of each good image; None: the job says it."""
    good: str | None = None
    """A folder, a glob or a manifest of those images."""

    @property
    def divides(self) -> bool:
        """Whether pixels have classes: 0 and 1."""
        return self.threshold is not None or self.percentile is not None

    @property
    def nodata(self) -> float:
        """As it is stored: NaN, or the highest number of uint16."""
        return float("nan") if self.dtype == "float32" else 65535.0

    def settings(self) -> dict[str, Any]:
        """In words, without credentials, by the keys of a job file; what is not set has no key."""
        words = {
            "dtype": self.dtype,
            "scale": self.scale,
            "offset": self.offset,
            "threshold": self.threshold,
            "threshold: percentile": self.percentile,
            "threshold: of": None if self.good is None else public(self.good),
        }
        return {f"values: {key}": value for key, value in words.items() if value is not None}

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel."""
        return 4 if self.dtype == "float32" else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaFile:
    """Where the polygons of an area of interest lie."""

    uri: str
    layer: str | None
    """None: the file's first."""


Fit = Literal["tile", "resize"]
"""How a photograph meets the network: in tiles, as scenes do, or as a whole, brought to `tile_size`."""

Verdict = Literal["PASS", "FAIL", "REVIEW"]

MAX_PHOTO_MEMORY = 2 * 2**30
"""Bytes that a photograph may take unless the job says more: at the peak, its file and all copies counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """A part of a photograph."""

    corners_xy: tuple[tuple[float, float], ...]
    """A polygon's corners, (x, y) from the upper left corner of the upright image."""
    unit: Literal["px", "share"] = "px"
    """share: of the image's width and height, for images of several sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When an image is no PASS: enough large, certain regions. Next: `recipe.Criterion`."""

    name: str
    then: Literal["FAIL", "REVIEW"]
    classes: tuple[str | int, ...] | None = None
    """Names or ids; None: all classes that make regions."""
    min_area: float = 0.0
    """Pixels of a region that lie in `interest`."""
    min_area_mm2: float = 0.0
    """The same in square millimetres; needs the job's `pixel_size`."""
    count: int = 1
    """Regions that it takes."""
    min_confidence: float = 0.0
    """Mean probability of a region's pixels, 0..1; needs `confidence: true`."""
    interest: Interest | None = None
    """None: the whole image."""
    min_valid: float = 1.0
    """Share of the part, 0..1, that must have data for the image to pass; 0: any pixel."""

    def least_px(self, pixel_size: float | None) -> float:
        """Pixels that a region needs, by both of its bounds; 0: any region that there is.

        To a millionth: 0.27 mm2 at 0.3 mm are 3 px, and 3.0000000000000004 in floats.
        """
        return round(max(self.min_area, self.min_area_mm2 / (pixel_size or 1.0) ** 2), 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """That the inputs are photographs: images without a place, each held in memory as a whole."""

    fit: Fit = "tile"
    rules: tuple[Rule, ...] = ()
    """A FAIL goes before a REVIEW; of several the first decides. None: images get no verdict."""
    pixel_size: float | None = None
    """Millimetres per pixel."""
    masks: Literal["all", "failed", "none"] = "all"
    """Of which images; failed: those that are no PASS."""
    mask_format: Literal["png", "tif"] = "png"
    same_content: bool = False
    """Files are hashed, and what is known under another name is not predicted again."""
    max_photo_memory: int = MAX_PHOTO_MEMORY
    """Bytes; an image whose header says that it takes more is refused before it is decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """A job file with its defaults filled in and its paths made absolute."""

    path: str
    """The job file, or what the job is called instead, for messages."""
    inputs: tuple[tuple[str | None, str | SceneSet], ...]
    """(name; path, folder, glob, manifest or scene set); the name is None unless the job file gives one."""
    model: ModelOptions
    output: str
    bands: tuple[int | str, ...] | None
    """Band numbers from 1, or names, in the model's order; None: all, in the file's order."""
    tile_size: int | None
    """None: what covers the sources with the least work; without trials the model's own size, or 512."""
    halo: int | None
    """None: as wide as the network needs, or its owner's advice, or 64."""
    scale: Scale
    normalize: Normalize | Literal["model", "none"]
    nodata: float | Literal["source", "none"]
    classes: tuple[ClassInfo, ...]
    num_classes: int | None
    confidence: bool
    compress: str
    regions: RegionOptions | None
    """None: no region tables."""
    engine: EngineName | Literal["auto"]
    precision: Precision | Literal["auto"]
    bake: bool
    """Normalisation, argmax and confidence as parts of the graph, where the model allows it."""
    gate: Gate
    device: Literal["auto", "cpu", "gpu"]
    executor: Literal["ray", "processes", "inline"]
    """What the job says, or what its `auto` is on this machine."""
    ray_address: str | None
    workers: int | None
    gpus_per_worker: float
    batch_size: int | None
    shard_tiles: int | None
    """Tiles per shard side; None: chosen from the scene."""
    max_in_flight: int | None
    """Bytes of pixels and masks between reading and writing, all nodes together; None: by workers."""
    lease_timeout: float
    deadline: str | None
    stop_after: int
    allow_empty: bool
    allow_vrt: bool
    """Sources may be VRTs, which read other files of the machine."""
    storage: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """Options by protocol: endpoint, anonymous, profile, and whatever fsspec's client takes."""
    aoi: AreaFile | None
    """What lies outside its polygons is not read, not predicted, and nodata in the mask."""
    on_bad_block: Literal["quarantine", "nodata"]
    min_age: float
    """Seconds; files that changed less than that ago are left to a later run."""
    photographs: Photographs | None = None
    """None: the inputs are scenes."""
    resolution: Resolution | Literal["any", "model"] | None = None
    """At which scenes are read, `model`: as the model says. `any` and None: at their own, which is compared
    with the model's (None) or not."""
    mask_resolution: Literal["scene", "model"] = "scene"
    """The grid of masks of scenes that are read at another resolution."""
    max_ratio: float = MAX_RATIO
    """By which a scene's own resolution may differ from the one at which it is read."""
    check_values: bool = True
    """Refuse values that cannot be meant, by samples of the data."""
    check_seams: bool = True
    """Predict some tiles again at other places, to say what depends on that."""
    values: Values | None = None
    """What the network gives are numbers; None: they tell classes."""
    threshold: Mapping[str | int, float] = field(default_factory=dict)
    """By the name or id of a class: the probability that it needs to win."""
    ignore_below: float | None = None
    """The probability that the best class needs, or the pixel is unknown."""
    probabilities: bool | tuple[str | int, ...] = False
    """Which classes' probabilities are written; True: all."""
    tta: Augmentation = "none"
    blend: Blend = "none"
    overlap: int | float | None = None
    """Pixels that neighbouring tiles share beyond the halo, or a share of the tile; None: an eighth of it."""
    merge: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    """The name of one class, and those that it is made of, by name or id."""
    sieve: int = 0
    """Pixels; smaller regions take the class of a neighbour. 0: all stay."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What the job file took from the environment: texts name such a variable, and do not quote it."""
