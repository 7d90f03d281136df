"""Everything that decides a pixel of a mask, and the digest that guards it: equal settings, equal digests."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import shapely

from batchseg.job.cleaning import Cleaning
from batchseg.job.resolution import ModelGrid
from batchseg.job.settings import Augmentation, Blend, Fit, Interest, MaskNames, Photographs, Scale, Values
from batchseg.models.package import (
    Bake,
    ClassInfo,
    EngineName,
    ModelFacts,
    ModelPackage,
    Normalize,
    OutputKind,
    Precision,
)
from batchseg.system.json_text import parse_json


def digest(settings: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A rule with classes by id and areas in pixels."""

    name: str
    then: Literal["FAIL", "REVIEW"]
    classes: tuple[int, ...] | None
    """Ascending; None: all that make regions."""
    min_area: float
    """Pixels of a region that lie in `interest`; 0: any region of which some does."""
    count: int
    min_confidence: float
    interest: Interest | None
    min_valid: float = 1.0
    """Share of `interest`, 0..1, that must have data for the image to pass; 0: any pixel."""

    def settings(self) -> dict[str, Any]:
        """In words."""
        words = asdict(self)
        if self.min_valid == 1:  # verdicts of before the key was known keep their digest
            del words["min_valid"]
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """What decides about a photograph; equal rulesets, regions and validity give equal verdicts."""

    criteria: tuple[Criterion, ...] = ()
    """In the order of the job file. None: images get no verdict."""
    check_values: bool = True
    """What may be of another unit than the output's first images is no PASS. Not in the digest: who was kept
    from passing is recorded."""

    @property
    def digest(self) -> str:
        """Of all that a verdict or the name of its rule depends on; empty without rules."""
        return digest({"rules": [one.settings() for one in self.criteria]}) if self.criteria else ""

    @property
    def parts(self) -> tuple[Interest | None, ...]:
        """The different parts of an image in which rules measure; the whole image is the first."""
        return tuple(dict.fromkeys((None, *(one.interest for one in self.criteria))))

    @property
    def interests(self) -> str:
        """Digest of `parts`, in their order; empty where rules look at whole images alone."""
        named = [asdict(part) for part in self.parts if part is not None]
        return digest({"interests": named}) if named else ""


def is_simple(interest: Interest) -> bool:
    """Whether the corners go once around an area: sides neither cross nor lie on one another."""
    return bool(shapely.is_valid(shapely.Polygon(interest.corners_xy)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """The union of a vector file's polygons."""

    wkb: bytes
    crs: str
    """As pyproj reads it: EPSG:25832, or WKT."""
    digest: str
    """Of the polygons as they are in the file, in any order, and of the CRS."""
    crossed: str = ""
    """Which of the polygons cross themselves, in words: what is inside them is a guess. Empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A network that was quantised on a job's own tiles: one file."""

    root: str
    """The output that it is kept in, or the folder that it was made in."""
    path: str
    """Of the file, below that."""
    digest: str
    """sha256 of the file."""


ALGORITHM = 1
"""Changes only when the same job would give other pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The steps' shared settings; equal recipes and equal pixels give equal masks, byte for byte."""

    model: ModelPackage
    facts: ModelFacts
    bands: tuple[int, ...]
    all_bands: bool
    """The job names no bands: a scene must have exactly the model's number, alpha not counted."""
    band_names: tuple[str, ...] = ()
    """In place of `bands`, whose numbers are then each scene's own (`fit.of_scene`)."""
    scale: Scale
    normalize: Normalize | None
    nodata: float | str
    """`source`, `none`, or the value that stands for no data beside what the file says."""
    tile_size: int
    halo: int
    """Pixels around a tile's core that the network sees, the rim included."""
    engine: EngineName = "paddle"
    precision: Precision = "fp32"
    device: Literal["cpu", "gpu"] = "cpu"
    bake: Bake | None = None
    """What is done in the graph; None: the network runs as its owner ships it."""
    quantized: Quantized | None = None
    """The network that runs, in int8, of this model, `bake` and `halo`; None: the model's own."""
    confidence: bool
    class_count: int | None
    on_bad_block: Literal["quarantine", "nodata"] = "quarantine"
    """Not of the pixel settings: a sound file has the same mask either way."""
    masks: tuple[str, ...] = ()
    """What the inputs' own flags take for no data, in words; each scene's source says how."""
    area: Area | None = None
    """Pixels outside it are nodata; those inside are the same with and without it."""
    fit: Fit | None = None
    """How a photograph meets the network; None: scenes."""
    resolution: float | None = None
    """Metres of a pixel's side that the network was made for; None: nobody says. It changes no pixel."""
    any_resolution: bool = False
    """Scenes are taken whatever their resolution."""
    model_grid: ModelGrid | None = None
    """At which resolution scenes are read (`pixels/model_grid`); None: each at its own."""
    check_values: bool = True
    """Sources whose values cannot be meant are refused where they are read. It changes no pixel."""
    values: Values | None = None
    """How numbers are stored; None: the network tells classes."""
    tta: Augmentation = "none"
    """As what else each tile is shown."""
    thresholds: tuple[int, ...] = ()
    """255 x the least probability of each class by which it can win; empty: none has one."""
    ignore_below: int = 0
    """255 x the probability below which the best class does not count."""
    unknown: int | None = None
    """The class of pixels of which none of the model's classes is told; None: there is none."""
    probabilities: tuple[int, ...] = ()
    """Ids of the classes whose probabilities are written."""
    blend: Blend = "none"
    """How the answers of neighbouring tiles are weighted where they overlap."""
    rim: int = 0
    """Pixels of the halo, its innermost, that are blended: half of the width that two tiles share."""

    def tiled(self, tile_size: int, halo: int) -> "Recipe":
        """The same with other tiles; the graph that cuts the halo off cuts this one."""
        bake = self.bake and dataclasses.replace(self.bake, margin=halo - self.rim)
        return dataclasses.replace(self, tile_size=tile_size, halo=halo, bake=bake)

    @property
    def answer(self) -> OutputKind:
        """What a tile's answer holds: the bare network's output, ids of one that is baked, or means."""
        return "classes" if self.bake is not None and self.tta == "none" else self.scores

    @property
    def scores(self) -> OutputKind:
        """Of what kind the answer's scores are, if it has some: means of several views are probabilities."""
        is_averaged = self.tta != "none" and self.facts.output == "logits"
        return "probabilities" if is_averaged else self.facts.output

    @property
    def graph_confidence(self) -> bool:
        """Whether the network that runs gives confidences beside ids."""
        if self.tta != "none":
            return False
        return self.bake.confidence if self.bake is not None else self.model.confidence_output

    @property
    def mask_dtype(self) -> str:
        """uint8 holds 255 classes beside its nodata; more need uint16."""
        return "uint8" if (self.class_count or 0) <= 255 else "uint16"

    @property
    def mask_nodata(self) -> int:
        """Beside all class ids; an id that collides with it ends the run (`predict.stitch.classify`)."""
        return 255 if self.mask_dtype == "uint8" else 65535

    @property
    def dropped(self) -> int:
        """Pixels per side of a tile's answer that do not count: the halo less its rim."""
        return self.halo - self.rim

    @property
    def has_mask(self) -> bool:
        """Whether pixels get classes; if not, numbers are all that is written."""
        return self.values is None or self.values.divides

    @property
    def layer_bytes(self) -> int:
        """Of a pixel, in all rasters that are made of a source."""
        values = 0 if self.values is None else self.values.itemsize
        return self.mask_bytes + self.confidence + values + len(self.probabilities)

    @property
    def mask_bytes(self) -> int:
        """Of a pixel of the mask."""
        return 1 if self.mask_dtype == "uint8" else 2

    def settings(self) -> dict[str, Any]:
        """The pixel settings in words, as they are recorded and compared."""
        normalize = dataclasses.asdict(self.normalize) if self.normalize else None
        # What is not there has no key: outputs made before it was known keep their digest.
        more: dict[str, Any] = {} if self.area is None else {"aoi": self.area.digest}
        if self.masks:
            more["mask"] = list(self.masks)
        if self.fit is not None:
            more["fit"] = self.fit
        if self.bake is not None:
            more["bake"] = self.bake.pixels
        if self.quantized is not None:
            more["quantized"] = self.quantized.digest
        if not isinstance(self.nodata, str):
            more["nodata of the files"] = "counts too"  # the job's alone did in an earlier version
        if self.model.geometry:
            more["geometry"] = [
                {"type": type(step).__name__, **_plain(dataclasses.asdict(step))}
                for step in self.model.geometry
            ]
        if self.facts.output == "sigmoid" and self.model.threshold != 0.5:
            more["threshold"] = self.model.threshold
        if self.values is not None:
            more |= self.values.settings()
        if self.tta != "none":
            more["tta"] = self.tta
        if self.thresholds:
            more["thresholds"] = list(self.thresholds)
        if self.unknown is not None:
            more["ignore_below"] = self.ignore_below
        if self.probabilities:
            more["probabilities"] = list(self.probabilities)
        if self.rim:
            more["blend"] = [self.blend, 2 * self.rim]
        if self.model_grid is not None:
            more |= self.model_grid.settings()
        if self.model.output_name is not None:
            more["output"] = self.model.output_name
        return {
            "algorithm": ALGORITHM,
            "model": self.model.digest,
            "engine": self.engine,
            "precision": self.precision,
            "device": self.device,
            "bands": list(self.band_names or self.bands),
            "scale": _plain(dataclasses.asdict(self.scale)),
            "normalize": _plain(normalize),
            "nodata": str(self.nodata),  # NaN differs from itself
            "tile_size": self.tile_size,
            "halo": self.halo,
            "confidence": self.confidence,
            "mask_dtype": self.mask_dtype,
            **more,
        }

    @property
    def digest(self) -> str:
        return digest(self.settings())


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """Which regions are written, and how."""

    min_area: int = 0
    """Pixels; smaller regions are left out."""
    simplify: float = 0.0
    """Tolerance in pixels, 0 for none. Measures are of the pixels in any case."""
    classes: tuple[int, ...] | None = None
    """Ids that make regions; None: all but 0."""
    max_vertices: int = 1_000_000
    """Open regions with more are cut into rows with one region_id, neither simplified nor left out."""
    connectivity: int = 4
    """4: pixels of a region touch by their sides; 8: by their corners too."""

    def settings(self) -> dict[str, Any]:
        """In words."""
        words = asdict(self)
        if self.connectivity == 4:  # what was made before it was known keeps its digest
            del words["connectivity"]
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What is made of a mask beside its pixels; a change of it is derived from the mask, not predicted."""

    classes: tuple[ClassInfo, ...]
    """Of the masks, by id."""
    compress: str
    regions: RegionSettings | None
    """None: no region tables."""
    photographs: Photographs | None = None
    rules: Ruleset | None = None
    """Of photographs: what makes a verdict. Not in the digest: verdicts follow from regions."""
    mask_names: MaskNames = "kept"
    """The output's rule, which stays as it began. Not in the digest: no mask is made again for its name."""
    cleaning: Cleaning | None = None
    """None: masks hold what the network says."""

    @property
    def predicted_classes(self) -> tuple[ClassInfo, ...]:
        """Of what the network says, by id."""
        return self.classes if self.cleaning is None else self.cleaning.classes

    @property
    def photo_options(self) -> Photographs:
        """Of a product of photographs; nothing over scenes may ask."""
        assert self.photographs is not None  # noqa: S101  a defect of who asks
        return self.photographs

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.classes)

    @property
    def encoding(self) -> str:
        """Digest of what the files of the mask and of what was predicted show."""
        more: dict[str, Any] = {} if self.photographs is None else {"format": self.photographs.mask_format}
        if self.cleaning is not None:
            more |= self.cleaning.settings()
        shown = [[c.name, c.color] for c in self.classes]
        return digest({"classes": shown, "compress": self.compress, **more})

    @property
    def digest(self) -> str:
        regions = self.regions.settings() if self.regions else None
        more = {} if self.photographs is None else {"pixel_size": self.photographs.pixel_size}
        return digest({"encoding": self.encoding, "regions": _plain(regions), **more})


def _plain(value: Any) -> Any:
    """Tuples become lists, as they are after a round trip through JSON."""
    return parse_json(json.dumps(value))


def spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """One value per band, of one for all or one for each."""
    return values * count if len(values) == 1 else values


def engine_words(engine: str, precision: str, device: str, *, baked: bool) -> str:
    """What runs the network, for people.

    >>> engine_words("openvino", "fp32", "cpu", baked=True)
    'openvino in fp32 on cpu, normalisation and classes inside the network'
    """
    inside = ", normalisation and classes inside the network" if baked else ""
    return f"{engine} in {precision} on {device}{inside}"
