"""Everything that decides a pixel of a mask, and the digest that guards it."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.inputs.source import Scene
from batchseg.job.digests import digest
from batchseg.job.settings import ClassInfo, EngineName, Fit, Normalize, Photographs, Precision, Scale
from batchseg.models.package import Bake, ModelFacts, ModelPackage, OutputKind
from batchseg.pixels.area import Area, misplacement
from batchseg.pixels.grid import TileGrid
from batchseg.regions.verdicts import Ruleset

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
    scale: Scale
    normalize: Normalize | None
    nodata: float | str
    """`source`, `none`, or the value that stands for no data whatever the file says."""
    tile_size: int
    halo: int
    engine: EngineName = "paddle"
    precision: Precision = "fp32"
    device: Literal["cpu", "gpu"] = "cpu"
    bake: Bake | None = None
    """What is done in the graph; None: the network runs as its owner ships it."""
    confidence: bool
    class_count: int | None
    on_bad_block: Literal["quarantine", "nodata"] = "quarantine"
    """Not of the pixel settings: a sound file has the same mask either way."""
    area: Area | None = None
    """Pixels outside it are nodata; those inside are the same with and without it."""
    fit: Fit | None = None
    """How a photograph meets the network; None: scenes."""

    @property
    def answer(self) -> OutputKind:
        """What comes out of the network that runs: the bare one's output, or ids."""
        return "classes" if self.bake is not None else self.facts.output

    @property
    def graph_confidence(self) -> bool:
        """Whether the network that runs gives confidences beside ids."""
        return self.bake.confidence if self.bake is not None else self.model.confidence_output

    @property
    def mask_dtype(self) -> str:
        """uint8 holds 255 classes beside its nodata; more need uint16."""
        return "uint8" if (self.class_count or 0) <= 255 else "uint16"

    @property
    def mask_nodata(self) -> int:
        return 255 if self.mask_dtype == "uint8" else 65535

    def grid(self, height: int, width: int) -> TileGrid:
        return TileGrid(height=height, width=width, tile_size=self.tile_size, halo=self.halo)

    def of_scene(self, scene: Scene) -> "Recipe":
        """With the scene's own scale, where the job takes it from metadata.

        raw * scale + offset is (raw - low) / (high - low), which is exact for Sentinel-2's integers.

        Raises:
            ValueError: the scene has none for a band; `mismatch` says so before.
        """
        if self.scale.kind != "metadata":
            return self
        pairs = [scene.rescale[band - 1] for band in self.bands]
        chosen = [pair for pair in pairs if pair is not None]
        if len(chosen) < len(pairs):
            msg = f"{scene.source.source_id} has no scale for every band"
            raise ValueError(msg)
        low = tuple(-offset / scale for scale, offset in chosen)
        high = tuple((1 - offset) / scale for scale, offset in chosen)
        return dataclasses.replace(self, scale=dataclasses.replace(self.scale, low=low, high=high))

    def settings(self) -> dict[str, Any]:
        """The pixel settings in words, as they are recorded and compared."""
        normalize = dataclasses.asdict(self.normalize) if self.normalize else None
        # What is not there has no key: outputs made before it was known keep their digest.
        more: dict[str, Any] = {} if self.area is None else {"aoi": self.area.digest}
        if self.fit is not None:
            more["fit"] = self.fit
        if self.bake is not None:
            more["bake"] = self.bake.pixels
        if self.model.geometry:
            more["geometry"] = [
                {"type": type(step).__name__, **_plain(dataclasses.asdict(step))}
                for step in self.model.geometry
            ]
        if self.facts.output == "sigmoid" and self.model.threshold != 0.5:
            more["threshold"] = self.model.threshold
        return {
            "algorithm": ALGORITHM,
            "model": self.model.digest,
            "engine": self.engine,
            "precision": self.precision,
            "device": self.device,
            "bands": list(self.bands),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What is made of a mask beside its pixels; a change of it is derived from the mask, not predicted."""

    classes: tuple[ClassInfo, ...]
    compress: str
    regions: RegionSettings | None
    """None: no region tables."""
    photographs: Photographs | None = None
    rules: Ruleset | None = None
    """Of photographs: what makes a verdict. Not in the digest: verdicts follow from regions."""

    @property
    def encoding(self) -> str:
        """Digest of what the mask's file shows."""
        more = {} if self.photographs is None else {"format": self.photographs.mask_format}
        shown = [[c.name, c.color] for c in self.classes]
        return digest({"classes": shown, "compress": self.compress, **more})

    @property
    def digest(self) -> str:
        regions = dataclasses.asdict(self.regions) if self.regions else None
        more = {} if self.photographs is None else {"pixel_size": self.photographs.pixel_size}
        return digest({"encoding": self.encoding, "regions": _plain(regions), **more})


def _plain(value: Any) -> Any:
    """Tuples become lists, as they are after a round trip through JSON."""
    return json.loads(json.dumps(value))


def spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """One value per band, of one for all or one for each."""
    return values * count if len(values) == 1 else values


MAX_TILES = 2_000_000
"""Of one scene, 540,000 pixels square in usual tiles: the driver takes 0.6 GB for it. A file of 122 bytes may
claim 2e13."""


def mismatch(scene: Scene, recipe: Recipe) -> str | None:
    """Why this scene cannot be segmented by this recipe, in words; None where it can."""
    count = scene.band_count
    if recipe.all_bands:
        usable = count - len(scene.alpha_bands)
        if usable != len(recipe.bands):
            alpha = f" (and alpha: band {scene.alpha_bands[0]})" if scene.alpha_bands else ""
            return f"has {usable} bands{alpha}, the model takes {len(recipe.bands)}; name the job's `bands`"
    elif max(recipe.bands) > count:
        return f"has {count} band{'s' * (count > 1)}, the job asks for band {max(recipe.bands)}"
    if (tiles := recipe.grid(scene.height, scene.width).count) > MAX_TILES:
        return (
            f"claims {scene.height:,} x {scene.width:,} pixels, which are {tiles:,} tiles; at most "
            f"{MAX_TILES:,} are taken of one scene"
        )
    if unscaled := _unscaled(scene, recipe):
        return unscaled
    for dtype in sorted({scene.dtypes[band - 1] for band in recipe.bands}):
        if reason := out_of_scale(dtype, recipe.scale):
            return reason
    return misplacement(recipe.area, scene) if recipe.area is not None else None


def _unscaled(scene: Scene, recipe: Recipe) -> str | None:
    if recipe.scale.kind != "metadata":
        return None
    lacking = [band for band in recipe.bands if not scene.rescale or scene.rescale[band - 1] is None]
    if not lacking:
        return None
    return (
        f"has no scale and offset for band {lacking[0]}: neither a STAC item, Sentinel-2's MTD_MSI*.xml or "
        f"Landsat's *_MTL.json says them, nor the file itself; set scale: {{divide: 10000}} or alike"
    )


def out_of_scale(dtype: str, scale: Scale) -> str | None:
    """Why pixels of this dtype cannot be brought to the model's unit; None where they can."""
    kind = np.dtype(dtype)
    if kind.kind not in "uif":
        return f"has {dtype} pixels, which no scale can bring to the model"
    remedy = "set scale: {divide: 10000} or {stretch: [low, high]} to the data's own range"
    if scale.kind == "transforms":
        if dtype != "uint8":
            return f"has {dtype} pixels, the model's transforms expect uint8 (0..255); {remedy}"
    elif kind.kind in "ui" and scale.kind != "metadata":
        info = np.iinfo(kind)
        if max(scale.high) > info.max or min(scale.low) < info.min:
            reach = f"{min(scale.low):g}..{max(scale.high):g}"
            return f"has {dtype} pixels ({info.min}..{info.max}), scale reaches {reach}; {remedy}"
        if scale.kind == "divide" and info.max > 255 and 1 < max(scale.high) <= 255:
            return f"has {dtype} pixels, scale divides by {max(scale.high):g} as for uint8; {remedy}"
    return None


def held_dtype(scene: Scene, recipe: Recipe) -> np.dtype[Any]:
    """The type that a scene's pixels have in memory: their own if the scales know it, else float32."""
    own = np.result_type(*(scene.dtypes[band - 1] for band in recipe.bands))
    return own if own in (np.uint8, np.uint16, np.int16, np.float32) else np.dtype(np.float32)


def fill_values(recipe: Recipe, dtype: str) -> NDArray[np.generic]:
    """One raw value per band for invalid pixels: what scales and normalises to zero, or nearest to it.

    Returns:
        Shape (bands,), of `dtype`.
    """
    count = len(recipe.bands)
    low, high = (np.array(spread(v, count)) for v in (recipe.scale.low, recipe.scale.high))
    mean = np.array(recipe.normalize.mean if recipe.normalize else (0.0,) * count)
    raw = low + mean * (high - low)
    kind = np.dtype(dtype)
    if kind.kind in "ui":
        info = np.iinfo(kind)
        raw = np.clip(np.rint(raw), info.min, info.max)
    filled: NDArray[np.generic] = raw.astype(kind)
    return filled
