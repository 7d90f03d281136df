"""Values for tests, complete and valid; each test names only what it is about."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import yaml
from numpy.typing import NDArray

from batchseg.inputs.ids import InputRoot
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.scene_rows import to_sources
from batchseg.inputs.source import Georeference, Scene, Source
from batchseg.job.recipe import Product, Recipe, RegionSettings
from batchseg.job.settings import Gate, JobConfig, Photographs, Rule, Scale
from batchseg.models.package import ClassInfo, ModelFacts, ModelOptions, ModelPackage, Normalize
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, PhotoRecord, ShardRecord
from batchseg.output.state import OutputState, save_state
from batchseg.pixels.grid import Shard
from batchseg.pixels.header import read_header
from batchseg.predict.predictor import Preparation
from batchseg.regions.rows import PHOTO_COLUMNS, RowMaker
from batchseg.regions.tracing.rings import count
from batchseg.regions.tracing.tracer import RegionTracer
from batchseg.tools.tables import ITEM_COLUMNS

UINT8_SCALE = Scale(kind="transforms", low=(0.0,), high=(255.0,))
NOWHERE = Georeference(crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=())
PIR_TEXT = '{"base_code":{"magic":"pir","trainable":true,"version":1},"program":{}}'
PDMODEL = b"\x0a\x02\x08\x00" + b"\x22\x02\x08\x00"
"""A program of one empty block, and its version: framework.proto's ProgramDesc."""


def make_facts(**changes: Any) -> ModelFacts:
    facts = ModelFacts(
        output="logits",
        class_count=4,
        channels=3,
        cpu_class="avx2",
        engine="paddle 3.2.2",
        seconds_per_tile=0.1,
    )
    return dataclasses.replace(facts, **changes)


def make_package(**changes: Any) -> ModelPackage:
    package = ModelPackage(
        path="/models/land",
        origin="paddleseg",
        format="pir",
        network="/models/land/model.json",
        params="/models/land/model.pdiparams",
        digest="0" * 64,
        normalize=Normalize(mean=(), std=()),
        declares_transforms=True,
    )
    return dataclasses.replace(package, **changes)


def make_recipe(*, output: str = "logits", **changes: Any) -> Recipe:
    """Three bands of uint8, four classes, tiles of 16 pixels with a core of 10."""
    recipe = Recipe(
        model=make_package(),
        facts=make_facts(output=output),
        bands=(1, 2, 3),
        all_bands=True,
        scale=UINT8_SCALE,
        normalize=Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        nodata="source",
        tile_size=16,
        halo=3,
        precision="fp32",
        device="cpu",
        confidence=False,
        class_count=4,
    )
    return dataclasses.replace(recipe, **changes)


def prepared(recipe: Recipe, tile: NDArray[Any]) -> NDArray[np.float32]:
    """What the network of this recipe sees of a raw tile (C, H, W)."""
    out = np.full(tile.shape, np.nan, dtype=np.float32)
    Preparation(recipe)(tile, out)
    return out


def make_product(*names: str, compress: str = "deflate", regions: RegionSettings | None = None) -> Product:
    names = names or ("soil", "water", "vegetation", "bright")
    colors = ("#a0522d", "#1f77b4", "#2ca02c", "#ffffff", "#000000")
    classes = tuple(
        ClassInfo(name=name, color=colors[number % len(colors)]) for number, name in enumerate(names)
    )
    return Product(classes=classes, compress=compress, regions=regions)


def make_source(source_id: str = "scene.tif", **changes: Any) -> Source:
    uri = f"/archive/{source_id}"
    source = Source(source_id=source_id, uri=uri, files=(uri,), tag="tag-1", size=1000)
    return dataclasses.replace(source, **changes)


def make_scene(
    height: int = 27, width: int = 43, *, source: Source | None = None, bands: int = 3, **changes: Any
) -> Scene:
    scene = Scene(
        source=source or make_source(),
        driver="GTiff",
        height=height,
        width=width,
        dtypes=("uint8",) * bands,
        nodata=(None,) * bands,
        alpha_bands=(),
        block_hw=(256, 256),
        georeference=NOWHERE,
    )
    return dataclasses.replace(scene, **changes)


def make_config(**changes: Any) -> JobConfig:
    config = JobConfig(
        path="/jobs/night.yaml",
        inputs=((None, "/archive"),),
        model=ModelOptions(path="/models/land"),
        output="/results",
        bands=None,
        tile_size=16,
        halo=3,
        scale=UINT8_SCALE,
        normalize="model",
        nodata="source",
        classes=(),
        num_classes=None,
        confidence=False,
        compress="deflate",
        regions=None,
        engine="auto",
        precision="auto",
        bake=True,
        gate=Gate(budget=0),
        device="auto",
        executor="inline",
        ray_address=None,
        workers=None,
        gpus_per_worker=1.0,
        batch_size=None,
        shard_tiles=None,
        max_in_flight=None,
        lease_timeout=600.0,
        deadline=None,
        stop_after=10,
        allow_empty=False,
        allow_vrt=False,
        storage={},
        aoi=None,
        on_bad_block="quarantine",
        min_age=0.0,
        photographs=None,
    )
    return dataclasses.replace(config, **changes)


def make_photographs(*rules: Rule, **changes: Any) -> Photographs:
    return dataclasses.replace(Photographs(rules=rules), **changes)


def make_shard_record(scene: Scene, recipe: Recipe, shard: Shard, grid: str, **changes: Any) -> ShardRecord:
    record = ShardRecord(
        source_id=scene.source.source_id,
        tag=scene.source.tag,
        pixel=recipe.digest,
        cpu_class="avx2",
        grid=grid,
        row_off=shard.core.row_off,
        col_off=shard.core.col_off,
        height=shard.core.height,
        width=shard.core.width,
        predicted=len(shard.tiles),
        uri=scene.source.uri,
    )
    return dataclasses.replace(record, **changes)


def write_raster(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    """A GeoTIFF of an array (bands, height, width)."""
    count, height, width = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **{**settings, **profile}) as dataset:
        dataset.write(pixels)
    return path


def write_job(folder: Path, text: str = "", **keys: Any) -> Path:
    """A job file with the keys that must be there; `text` is appended as it is."""
    needed = {"inputs": "scenes", "model": "model", "output": "results"}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({**needed, **keys}, sort_keys=False) + text, encoding="utf-8")
    return path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photo:
    """An image and what a run found in it."""

    source_id: str
    mask: NDArray[np.uint8]
    """(H, W) class ids; those above 0 make regions."""
    uri: str = ""
    tag: str = "tag-1"
    item: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Columns of the items table to set or replace, attributes too."""


def region_rows(photo: Photo, classes: tuple[str, ...], pixel_size: float | None = None) -> pa.Table:
    """PHOTO_COLUMNS of an image by the tracer of scenes' masks; the confidence of class c is c/10."""
    height, width = photo.mask.shape
    tracer = RegionTracer(height, width, wanted=np.arange(256) > 0, with_confidence=True, max_vertices=10**6)
    parts = [*tracer.feed(0, photo.mask, (photo.mask * 25.5).astype(np.uint8)), tracer.finish()]
    make = RowMaker(
        NOWHERE,
        height=height,
        width=width,
        source_id=photo.source_id,
        class_names=classes,
        simplify=0,
        with_confidence=True,
    )
    tables = [PHOTO_COLUMNS.empty_table()]
    for regions in parts:
        counts = count(regions)
        rows, box = make(regions, counts), counts.box.astype(np.int32)
        own = {
            "area_mm2": counts.area * pixel_size**2 if pixel_size else pa.nulls(len(rows), pa.float64()),
            "box_x": box[:, 0],
            "box_y": box[:, 1],
            "box_width": box[:, 2] - box[:, 0],
            "box_height": box[:, 3] - box[:, 1],
        }
        columns = [own[name] if name in own else rows.column(name) for name in PHOTO_COLUMNS.names]
        tables.append(pa.table(dict(zip(PHOTO_COLUMNS.names, columns, strict=True)), schema=PHOTO_COLUMNS))
    return pa.concat_tables(tables)


def make_state(**changes: Any) -> OutputState:
    state = OutputState(pixel={}, device="cpu", facts=make_facts(), roots={}, classes=("good", "bad"))
    return dataclasses.replace(state, **changes)


def make_photo_output(
    output: Path,
    photos: Sequence[Photo],
    *,
    classes: tuple[str, ...] = ("good", "hole", "crack", "fray"),
    colors: tuple[str, ...] = ("#000000", "#ff0000", "#00ff00", "#0000ff"),
    pixel_size: float | None = None,
    stale: Sequence[Photo] = (),
    inputs: Sequence[str] = (),
) -> str:
    """An output of photographs as a run leaves it: state, ledger, annotations in parts of three, items.

    `stale` are rows of earlier versions in the first part, which no record names for these images; `inputs`
    are folders that the images came from.
    """
    roots = {folder: InputRoot(pattern=folder, name="", prefix=folder) for folder in inputs}
    save_state(str(output), make_state(pixel={"fit": "tile"}, classes=classes, colors=colors, roots=roots))
    ledger = Ledger(str(output))
    ledger.claim("20260101-000000-abcdef")
    rows = {photo.source_id: region_rows(photo, classes, pixel_size) for photo in photos}
    for number in range(0, len(photos), 3):
        group = photos[number : number + 3]
        path = f"annotations/crs=none/part-{number:016x}.parquet"
        tables = [rows[photo.source_id] for photo in group]
        old = [region_rows(photo, classes) for photo in stale] if number == (len(photos) - 1) // 3 * 3 else []
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables([*old, *tables]), output / path)
        part = Output(path=path, nbytes=(output / path).stat().st_size, sha256="")
        ledger.append(
            PhotoRecord(
                status="done",
                source_id=photo.source_id,
                tag=photo.tag,
                uri=photo.uri,
                outputs=(part,) if len(table) else (),
                region_count=len(table),
            )
            for photo, table in zip(group, tables, strict=True)
        )
    items = [_photo_item(photo, rows[photo.source_id], classes) for photo in photos]
    schema = dict(ITEM_COLUMNS) | {
        name: pa.string() for row in items for name in row if name not in ITEM_COLUMNS
    }
    (output / "items").mkdir()
    table = pa.Table.from_pylist(sorted(items, key=lambda row: row["source_id"]), schema=pa.schema(schema))
    pq.write_table(table, output / "items" / "items.parquet")
    return str(output)


def _photo_item(photo: Photo, rows: pa.Table, classes: tuple[str, ...]) -> dict[str, Any]:
    areas, ids = rows.column("area_px").to_pylist(), rows.column("class_id").to_pylist()
    largest = max(zip(areas, ids, strict=True), default=(0, -1))
    return {
        "source_id": photo.source_id,
        "uri": photo.uri,
        "status": "done",
        "height": photo.mask.shape[0],
        "width": photo.mask.shape[1],
        "verdict": "FAIL" if areas else "PASS",
        "rule": "any defect" if areas else None,
        "region_count": len(areas),
        "classes": [
            {
                "class_id": class_id,
                "class_name": classes[class_id],
                "pixels": int((photo.mask == class_id).sum()),
                "regions": ids.count(class_id),
            }
            for class_id in np.unique(photo.mask).tolist()
        ],
        "largest_px": largest[0],
        "largest_class": classes[largest[1]] if areas else None,
        "confidence": max(rows.column("confidence").to_pylist(), default=None),
        "tag": photo.tag,
        "gone": False,
        "recorded_at": dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC),
        **photo.item,
    }


def tensor_bytes(dims: tuple[int, ...]) -> bytes:
    """A float32 tensor as Paddle stores it: versions, no LoD, a TensorDesc message, the elements."""
    message = bytes([0x08, 5, *(byte for dim in dims for byte in (0x10, dim))])
    elements = np.arange(np.prod(dims), dtype=np.float32).tobytes()
    return bytes(4 + 8 + 4) + len(message).to_bytes(4, "little") + message + elements


def write_model(
    folder: Path, deploy: Any = None, *, name: str = "model", suffix: str = ".json", deploy_name="deploy.yaml"
) -> Path:
    """The files of an export; there is no network in them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}{suffix}").write_bytes(PIR_TEXT.encode() if suffix == ".json" else PDMODEL)
    (folder / f"{name}.pdiparams").write_bytes(tensor_bytes((2, 3)) + tensor_bytes((5,)))
    if deploy is not None:
        (folder / deploy_name).write_text(yaml.safe_dump(deploy), encoding="utf-8")
    return folder


def find_sources(config, recorded, left_out=None):
    """A job's inputs as scenes, and their roots."""
    config = dataclasses.replace(config, photographs=None)
    listing, roots = list_inputs(config, recorded, left_out)
    return to_sources(listing, config), roots


def source_of(path: Path, **changes: Any) -> Source:
    config = make_config(inputs=((None, str(path)),), output=str(path.parent / "out"), **changes)
    (source,), _ = find_sources(config, {})
    return source


def scene_of(path: Path, **changes: Any) -> Scene:
    scene = read_header(source_of(path, **changes))
    assert isinstance(scene, Scene), scene
    return scene


IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


REFLECTANCE = Scale(kind="divide", low=(0.0,), high=(10_000.0,))


METADATA = Scale(kind="metadata", low=(0.0,), high=(1.0,))


STRETCH = Scale(kind="stretch", low=(100.0, 0.0, 50.0), high=(3000.0, 4000.0, 5000.0))
