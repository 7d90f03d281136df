"""Pixels and headers through rasterio. Whatever GDAL says about a file becomes a SourceError here."""

import contextlib
import re
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from batchseg import storage
from batchseg.aoi import footprint
from batchseg.aside import start_aside
from batchseg.blocks import BLOCKWISE_DRIVERS, WindowReader
from batchseg.disks import describe, is_full
from batchseg.errors import GridError, SourceChangedError, SourceError, SourceIOError, StoppedError
from batchseg.grid import Shard
from batchseg.inputs import current_tag
from batchseg.isolate import ProcessDiedError, each_in_fresh_process
from batchseg.opener import RAW_BLOCK_BYTES, storage_failure
from batchseg.recipe import Recipe, fill_values, held_dtype
from batchseg.scene import ControlPoint, Georeference, Refusal, Scene, Source
from batchseg.scratch import cache_root
from batchseg.stack import FileError, Stack, open_source, rescale_of

GDAL_OPTIONS = {
    # GDAL's default is 5 % of the machine's memory in every process.
    "GDAL_CACHEMAX": 96 * 1024**2,
    "GDAL_NUM_THREADS": 1,
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": RAW_BLOCK_BYTES,
    # Of a JPEG that is cut off libjpeg makes up the rest, and warns.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    # A VRT may name files anywhere; none of them is fetched from the network behind the user's back.
    "GDAL_HTTP_MAX_RETRY": 0,
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}

GONE = "the file is gone"
NOT_GIVEN = "the storage does not give the file"
UNDECODABLE = "damaged or cut off: pixels cannot be decoded"
"""How the reason begins of sources that are refused for it."""

PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPixels:
    """What a shard's tiles need, halo included."""

    shard: Shard
    pixels: NDArray[np.generic]
    """Shape (bands, height, width) of `shard.read`, raw values, invalid pixels filled."""
    valid: NDArray[np.bool_] | None
    """Shape (height, width), True = usable. None: every pixel is."""
    bad_pixels: int = 0
    """Of the shard's core, that lie in blocks which cannot be decoded."""


@contextlib.contextmanager
def gdal() -> Iterator[None]:
    """GDAL's settings, and silence about rasters without georeference, which are welcome."""
    with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _source_errors(doing: str, source: Source) -> Iterator[None]:
    """GDAL's errors in words: the innermost message, which names the block or the tag that is wrong."""
    storage_failure()  # of a read before
    try:
        yield
    except (FileError, RasterioError, rasterio._err.CPLE_BaseError, ValueError, MemoryError) as e:
        root: BaseException = e
        while root.__cause__ is not None:
            if isinstance(root, FileError):
                doing = f"{_part(source, root.uri)}{doing}"
            root = root.__cause__
        if isinstance(root, SourceError):  # it was not even opened
            msg = f"{_part(source, e.uri) if isinstance(e, FileError) else ''}{root}"
            raise SourceError(msg) from e
        text = getattr(root, "errmsg", None) or str(root) or type(root).__name__
        detail = re.sub(r" \(this error can be turned.*\)", "", text).rstrip(".")
        for uri in (source.uri, *source.rasters):
            detail = detail.replace(uri, uri.rsplit("/", 1)[-1])
        given = storage_failure()
        problem = f"{NOT_GIVEN}: {given}" if given else _storage_problem(source)
        if problem:
            raise SourceIOError(problem) from e
        msg = f"{doing} (GDAL: {detail})"
        raise SourceError(msg) from e
    except FileNotFoundError as e:
        raise SourceIOError(GONE) from e
    except OSError as e:
        if is_full(e):  # reading needs no room: it is that of a copy
            msg = f"cannot copy {source.uri} to {e.filename or cache_root()}: {describe(e)}"
            raise StoppedError(msg) from e
        msg = f"{NOT_GIVEN}: {e.strerror or e}"
        raise SourceIOError(msg) from e
    if problem := storage_failure():
        msg = f"{NOT_GIVEN}: {problem}"
        raise SourceIOError(msg)


def _part(source: Source, uri: str) -> str:
    """Which file of a scene it is, in words that are the same for all scenes: the driver compares errors."""
    if len(source.rasters) < 2 or not source.names:
        return ""
    return f"its file for {source.names[source.rasters.index(uri)]}: "


def _storage_problem(source: Source) -> str | None:
    """GDAL calls an unreadable file 'not recognized'; ask the storage itself whose fault it is."""
    try:
        for uri in source.rasters or (source.uri,):
            if storage.file_info(uri) is None:
                return GONE
            storage.read_tail(uri, 1)
    except (OSError, SourceIOError) as e:
        return f"{NOT_GIVEN}: {getattr(e, 'strerror', None) or e}"
    return None


def read_header(source: Source) -> Scene | Refusal:
    """Open a source and read what its header says."""
    if source.problem:
        return Refusal(source=source, reason=source.problem)
    try:
        with gdal(), _source_errors("no raster, or its header is damaged", source):
            if source.size == 0 and storage.file_info(source.uri) is not None:
                msg = "the file is empty"
                raise SourceError(msg)
            with open_source(source) as dataset:
                return _scene(source, dataset)
    except GridError as e:
        return Refusal(source=source, reason=str(e), mismatch=True)
    except SourceError as e:
        return Refusal.of(source, e)


def read_headers_alone(sources: Sequence[Source], timeout: float) -> Iterator[Scene | Refusal]:
    """Headers read in a fresh process, in the sources' order; one that ends or stops it is refused.

    Args:
        sources: those whose first reading failed or never ended.
        timeout: seconds for each.
    """
    answers = each_in_fresh_process(read_header, sources, timeout=timeout)
    for source, answer in zip(sources, answers, strict=True):
        if isinstance(answer, ProcessDiedError):
            yield died_refusal(source, answer, "opened")
        else:
            yield answer


def died_refusal(source: Source, error: ProcessDiedError, doing: str) -> Refusal:
    """Of a source over which a fresh process ended. It is not blamed for a server that does not answer."""
    transient = error.hung and storage.local_path(source.uri) is None
    return Refusal(source=source, reason=f"the process that {doing} it {error}", transient=transient)


def _scene(source: Source, dataset: rasterio.DatasetReader | Stack) -> Scene:
    if dataset.count == 0:
        inner = (
            f" with {len(dataset.subdatasets)} subdatasets; name one of them" if dataset.subdatasets else ""
        )
        msg = f"the file holds no raster band{inner}"
        raise SourceError(msg)
    for uri, member in dataset.members() if isinstance(dataset, Stack) else [(source.uri, dataset)]:
        if member.driver == "PNG" and PNG_END not in storage.read_tail(uri, 4096):
            msg = "the PNG has no end: it was cut off"  # GDAL reads such files without a word
            raise SourceError(msg)
    return Scene(
        source=source,
        driver=dataset.driver,
        height=dataset.height,
        width=dataset.width,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        alpha_bands=tuple(
            number for number, what in enumerate(dataset.colorinterp, start=1) if what == ColorInterp.alpha
        ),
        block_hw=dataset.block_shapes[0],
        georeference=_georeference(dataset),
        rescale=rescale_of(dataset),
    )


def _georeference(dataset: rasterio.DatasetReader | Stack) -> Georeference:
    points, gcps_crs = dataset.gcps
    transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
    return Georeference(
        crs_wkt=dataset.crs.to_wkt() if dataset.crs else None,
        transform=transform,
        gcps=tuple(
            ControlPoint(row=p.row, col=p.col, x=p.x, y=p.y, z=p.z or 0.0, id=p.id or str(i))
            for i, p in enumerate(points, start=1)
        ),
        gcps_crs_wkt=gcps_crs.to_wkt() if gcps_crs else None,
        rpcs=tuple(sorted(dataset.tags(ns="RPC").items())),
    )


def check_version(source: Source) -> None:
    """Raises SourceChangedError where the source's files are not those that were planned."""
    tag = current_tag(source)
    if tag is None:
        msg = "the file is gone"
        raise SourceChangedError(msg)
    if tag != source.tag:
        msg = "the file changed while the run was going on; the next run does the new version"
        raise SourceChangedError(msg)


def read_shards(scene: Scene, recipe: Recipe, shards: tuple[Shard, ...]) -> tuple[list[ShardPixels], float]:
    """Read the pixels of some shards of one scene.

    Returns:
        One ShardPixels per shard, and the seconds it took.

    Raises:
        SourceError: the content cannot be decoded.
        SourceChangedError: the source is not the planned version before or after the read.
    """
    started = time.perf_counter()
    version = _checking(scene.source)
    recipe = recipe.of_scene(scene)
    try:
        with gdal(), _source_errors(_undecodable(scene, recipe), scene.source):
            dataset = _held.open(scene.source)
            if (dataset.height, dataset.width) != (scene.height, scene.width):
                msg = "the file changed while the run was going on; the next run does the new version"
                raise SourceChangedError(msg)
            read = [_read_shard(dataset, scene, recipe, shard) for shard in shards]
    except SourceError:
        _held.close()
        raise
    version.result()
    check_version(scene.source)
    return read, time.perf_counter() - started


def _checking(source: Source) -> "Future[None]":
    """`check_version`; of a bucket it is a round trip, and is asked while the read begins."""
    if storage.local_path(source.uri) is None:
        return start_aside(check_version, source)
    check_version(source)
    done: Future[None] = Future()
    done.set_result(None)
    return done


class _Held(threading.local):
    """The last source stays open: neighbouring shards share its blocks, decoded once in GDAL's cache.

    It is closed in the thread that opened it: rasterio's openers end badly in others', and in the garbage
    collector's hands.
    """

    def __init__(self) -> None:
        self._source: Source | None = None
        self._dataset: rasterio.DatasetReader | Stack | None = None

    def open(self, source: Source) -> rasterio.DatasetReader | Stack:
        if self._dataset is None or self._source != source:
            self.close()
            self._dataset, self._source = open_source(source), source
        return self._dataset

    def close(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
        self._dataset = self._source = None


_held = _Held()


def release() -> None:
    """Close the source that this thread holds open, at its end."""
    _held.close()


def _read_shard(
    dataset: rasterio.DatasetReader | Stack, scene: Scene, recipe: Recipe, shard: Shard
) -> ShardPixels:
    reader = WindowReader(
        shard.read,
        raster_hw=(scene.height, scene.width),
        block_hw=scene.block_hw,
        is_damage=partial(_is_damage, scene.source) if _leaves_blocks_out(scene, recipe) else None,
    )
    dtype = np.result_type(*(scene.dtypes[band - 1] for band in recipe.bands))
    pixels = reader.pixels(
        lambda window: dataset.read(list(recipe.bands), window=window), bands=len(recipe.bands), dtype=dtype
    )
    valid = _valid(dataset, scene, recipe, pixels, reader)
    pixels = pixels.astype(held_dtype(scene, recipe), copy=False)
    bad = reader.bad
    if bad is not None:
        valid = _both(valid, ~bad)
    if valid is not None:
        fill = fill_values(recipe, str(pixels.dtype))
        np.copyto(pixels, fill[:, None, None], where=~valid)
    if recipe.area is not None:
        # After the fill: what lies outside is still what a tile at the border sees beside it.
        inside = footprint(recipe.area, scene).inside(shard.read)
        valid = _both(valid, inside)
        bad = None if bad is None else _both(bad, inside)
    return ShardPixels(shard=shard, pixels=pixels, valid=valid, bad_pixels=_count_in_core(bad, shard))


def _both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """True where both are; None stands for True everywhere."""
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _count_in_core(bad: NDArray[np.bool_] | None, shard: Shard) -> int:
    """Each pixel of a tile's core once, whatever the shard."""
    if bad is None:
        return 0
    return sum(int(np.count_nonzero(bad[tile.core.slices_within(shard.read)])) for tile in shard.tiles)


def _leaves_blocks_out(scene: Scene, recipe: Recipe) -> bool:
    return recipe.on_bad_block == "nodata" and scene.driver in BLOCKWISE_DRIVERS


def _undecodable(scene: Scene, recipe: Recipe) -> str:
    if recipe.on_bad_block == "quarantine" or _leaves_blocks_out(scene, recipe):
        return UNDECODABLE
    return f"damaged or cut off, and blocks can be left out of GeoTIFF alone, not of {scene.driver}"


def _is_damage(source: Source) -> bool:
    """Whether a read that failed is the content's fault: the storage still gives the file.

    Raises:
        SourceIOError: it failed in that very read.
    """
    if problem := storage_failure():
        msg = f"{NOT_GIVEN}: {problem}"
        raise SourceIOError(msg)
    return _storage_problem(source) is None


def _covered(dataset: Stack, recipe: Recipe, window: RasterioWindow) -> NDArray[np.uint8]:
    """Where the files of a scene cover the window and their masks hold it."""
    held = dataset.valid(recipe.bands, window, masks=recipe.nodata == "source")
    if held is None:
        return np.ones((int(window.height), int(window.width)), dtype=np.uint8)
    return held.astype(np.uint8)


def _valid(
    dataset: rasterio.DatasetReader | Stack,
    scene: Scene,
    recipe: Recipe,
    pixels: NDArray[np.generic],
    reader: WindowReader,
) -> NDArray[np.bool_] | None:
    """Which pixels hold data: masks, nodata values, alpha and NaN.

    In GDAL's order: a mask of the whole file, else nodata values, else alpha. By nodata a pixel is
    invalid where every selected band holds it, as in rasterio's `dataset_mask`. NaN in any selected
    band makes it invalid too. A band that the job names is data even where the file tags it as alpha,
    as near infrared often is. Of several files each one's mask counts, and none is valid where it ends.
    """
    valid: NDArray[np.bool_] | None = None
    flags = dataset.mask_flag_enums[recipe.bands[0] - 1]
    if isinstance(recipe.nodata, float | int):
        valid = np.any(pixels != recipe.nodata, axis=0)
    elif recipe.nodata == "source":
        if not isinstance(dataset, Stack) and MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            valid = reader.mask(lambda window: dataset.read_masks(recipe.bands[0], window=window)) != 0
        else:
            valid = _differs_from_nodata(pixels, [scene.nodata[band - 1] for band in recipe.bands])
            if valid is None:
                alpha = dataset.alpha_of(recipe.bands) if isinstance(dataset, Stack) else scene.alpha_bands
                valid = _opaque(dataset, scene, set(alpha) - set(recipe.bands), reader)
    if isinstance(dataset, Stack):
        valid = _both(valid, reader.mask(lambda window: _covered(dataset, recipe, window)) != 0)
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels).all(axis=0)
        valid = finite if valid is None else valid & finite
    return None if valid is None or valid.all() else valid


def _opaque(
    dataset: rasterio.DatasetReader | Stack, scene: Scene, bands: set[int], reader: WindowReader
) -> NDArray[np.bool_] | None:
    """Where alpha is not 0. GDAL itself takes alpha for a mask only in files of two or four bands."""
    if not bands:
        return None
    dtype = np.result_type(*(scene.dtypes[band - 1] for band in bands))
    alpha = reader.pixels(
        lambda window: dataset.read(sorted(bands), window=window), bands=len(bands), dtype=dtype
    )
    opaque: NDArray[np.bool_] = (alpha != 0).all(axis=0)
    return opaque


def _differs_from_nodata(pixels: NDArray[np.generic], nodata: list[float | None]) -> NDArray[np.bool_] | None:
    if any(value is None for value in nodata):
        return None  # a band without nodata value is valid everywhere
    valid = np.zeros(pixels.shape[1:], dtype=bool)
    for band, value in zip(pixels, nodata, strict=True):
        if value is None or np.isnan(value):
            valid |= ~np.isnan(band) if band.dtype.kind == "f" else True
        else:
            # GDAL keeps nodata as float64; a float32 band holds its rounding (-3.4e38, 1e20).
            with np.errstate(over="ignore"):
                valid |= band != np.array(value).astype(band.dtype) if _representable(value, band) else True
    return valid


def _representable(value: float, band: NDArray[np.generic]) -> bool:
    if band.dtype.kind == "f":
        return True
    info = np.iinfo(str(band.dtype))
    return value.is_integer() and info.min <= value <= info.max
