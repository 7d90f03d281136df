"""The files of one scene as one raster: bands in a row, other grids brought to the finest.

A source that is one file, with nothing beside it that says more, stays rasterio's own dataset.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from batchseg.errors import SourceError, SourceIOError
from batchseg.inputs.metadata import read_metadata
from batchseg.inputs.sidecars import beside
from batchseg.inputs.source import BandMetadata, Box, Source, SourceMask
from batchseg.pixels.flag_mask import FlagMask
from batchseg.pixels.open import open_raster
from batchseg.pixels.regrid import box_on, covered, file_name, finest, read_warped, same_grid, warp

Rescale = tuple[tuple[float, float] | None, ...]


def open_source(
    source: Source, nodata: float | str = "source", level: int | None = None
) -> "DatasetReader | Stack":
    """Open a source's file, or its files as one.

    Args:
        source: what to open.
        nodata: the job's; a number is that of each of several files that has none of its own.
        level: number of an overview that all files have (`overviews.level`), from 0; None: the files.

    Raises:
        GridError: they lie on several grids, and no resampling is declared or possible.
        SourceError: their metadata are damaged, or the storage does not give them.
        What rasterio raises.
    """
    if not source.rasters:
        return open_raster(
            source.uri, source.files, allow_vrt=source.allow_vrt, size=source.size, level=level
        )
    read: dict[tuple[str, str], BandMetadata] = {}
    opened: list[_File] = []
    try:
        for number, uri in enumerate(source.rasters):
            with _naming(uri):
                dataset = open_raster(uri, beside(uri, source.files), allow_vrt=source.allow_vrt, level=level)
            said = source.said[number] if source.said else ()
            file = source.metadata[number] if source.metadata else ""
            if file and (file, uri) not in read:
                read[file, uri] = read_metadata(file, uri)
            opened.append(
                _File(
                    uri=uri,
                    dataset=dataset,
                    said=_per_band(said, read.get((file, uri)), dataset),
                    spacecraft=read[file, uri].spacecraft if file else "",
                    asked=None if isinstance(nodata, str) else float(nodata),
                )
            )
        stack = Stack(opened, source.resampling)
        if source.mask is not None:
            stack.mask = _open_mask(source, source.mask, stack)
    except BaseException:
        for file_ in opened:
            file_.dataset.close()
        raise
    return stack


def _open_mask(source: Source, mask: SourceMask, stack: "Stack") -> FlagMask:
    with _naming(mask.uri):
        dataset = open_raster(mask.uri, beside(mask.uri, source.files), allow_vrt=source.allow_vrt)
        try:
            return FlagMask(dataset, stack.reference, mask)
        except BaseException:
            dataset.close()
            raise


def rescale_of(dataset: "DatasetReader | Stack") -> Rescale:
    """Scale and offset to reflectance of each band, as metadata or the file itself says."""
    pairs = dataset.rescale if isinstance(dataset, Stack) else _own_rescale(dataset)
    return tuple(pair if pair and _is_usable(*pair) else None for pair in pairs)


def _is_usable(scale: float, offset: float) -> bool:
    """Whether 0 and 1 have raw values, apart from each other, in the float32 that tiles are prepared in."""
    if not scale or not np.isfinite((scale, offset)).all():
        return False
    with np.errstate(over="ignore"):
        low, span = np.array((-offset / scale, (1 - offset) / scale - -offset / scale)).astype(np.float32)
    return bool(np.isfinite((low, span)).all() and span != 0)


def _own_rescale(dataset: DatasetReader) -> Rescale:
    """The raster's own; integers of scale 1 and offset 0 say nothing, floats are taken for reflectance."""
    return tuple(
        (scale, offset) if (scale, offset) != (1, 0) or is_float(dtype) else None
        for scale, offset, dtype in zip(dataset.scales, dataset.offsets, dataset.dtypes, strict=True)
    )


def is_float(dtype: str) -> bool:
    """By its name: rasterio has some that numpy does not know, such as complex_int16."""
    return dtype.startswith("float")


def _per_band(
    said: Sequence[BandMetadata], file: BandMetadata | None, dataset: DatasetReader
) -> tuple[BandMetadata, ...]:
    """Band by band: what the listing says, else the metadata file."""
    said = said * dataset.count if len(said) == 1 else said
    if said and len(said) != dataset.count:
        msg = f"{file_name(dataset)} has {dataset.count} bands, its STAC item describes {len(said)}"
        raise SourceError(msg)
    other = file or BandMetadata()
    return tuple(
        BandMetadata(
            scale=band.scale if band.scale is not None else other.scale,
            offset=band.offset if band.scale is not None else other.offset,
            nodata=band.nodata if band.nodata is not None else other.nodata,
        )
        for band in said or (BandMetadata(),) * dataset.count
    )


@dataclass(slots=True, kw_only=True)
class _File:
    """One raster of a stack."""

    uri: str
    dataset: DatasetReader
    said: tuple[BandMetadata, ...]
    spacecraft: str = ""
    """By the file's metadata."""
    asked: float | None = None
    """The job's nodata."""
    warped: WarpedVRT | None = None

    @property
    def masked(self) -> bool:
        """Whether a mask of the whole file says what is valid, as .msk files and internal masks do."""
        flags = self.dataset.mask_flag_enums[0]
        return bool(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """By band, as its dtype rounds it; a mask of the whole file goes before it, as in GDAL."""
        if self.masked:
            return tuple(None for _ in self.said)
        values = zip(self.dataset.nodatavals, self.said, self.dataset.dtypes, strict=True)
        rounded = [_rounded(said.nodata if own is None else own, dtype) for own, said, dtype in values]
        return tuple(rounded)

    @property
    def filled(self) -> float | None:
        """The job's nodata, as the pixels' type rounds it, where the file has none of its own."""
        own = (*self.dataset.nodatavals, *(band.nodata for band in self.said))
        if self.asked is None or any(value is not None for value in own):
            return None
        (dtype, *others) = set(self.dataset.dtypes)
        return None if others or not _holds(dtype, self.asked) else _rounded(self.asked, dtype)

    @property
    def rescale(self) -> Rescale:
        pairs = zip(self.said, _own_rescale(self.dataset), strict=True)
        return tuple(own if said.scale is None else (said.scale, said.offset) for said, own in pairs)

    def read(self, bands: list[int], window: RasterioWindow, out: NDArray[Any]) -> None:
        with _naming(self.uri):
            if self.warped is None:
                self.dataset.read(bands, window=window, out=out)
                return
            read_warped(self.warped, bands, window, out)

    def read_mask(self, window: RasterioWindow) -> NDArray[np.bool_]:
        with _naming(self.uri):
            if self.warped is None:
                whole: NDArray[np.bool_] = self.dataset.read_masks(1, window=window) != 0
                return whole
            alpha = np.zeros((1, window.height, window.width), dtype=np.uint8)
        self.read([self.warped.count], window, alpha)
        return np.asarray(alpha[0] != 0)

    def covers(self, window: RasterioWindow) -> NDArray[np.bool_] | None:
        """Which pixels' centres lie in the file; None: all of them."""
        if self.warped is None:
            return None
        return covered(self.dataset, self.warped.transform, window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one file of a stack holds of the bands that are read."""

    at: tuple[int, ...]
    """Places among these bands, from 0."""
    alpha: frozenset[int]
    """Numbers of the file's alpha bands in the stack, from 1."""
    masked: bool
    """A mask of the whole file says what is valid: `Stack.valid` gives it."""
    filled: float | None
    """The job's nodata, which counts beside the file's mask and alpha; None: the file has a value itself."""


def _holds(dtype: str, value: float) -> bool:
    """Whether pixels of this type can have a value, and GDAL takes it for theirs."""
    if is_float(dtype):
        rounded = _rounded(value, dtype)
        return rounded is not None and not math.isinf(rounded)
    if not value.is_integer() or not dtype.startswith(("int", "uint")):
        return False
    info = np.iinfo(dtype)
    return bool(info.min <= value <= info.max)


def _rounded(value: float | None, dtype: str) -> float | None:
    """GDAL keeps nodata as float64, and several files may meet in float64; the pixels were rounded before."""
    if value is None:
        return None
    if not is_float(dtype) or math.isnan(value):
        return float(value)
    with np.errstate(over="ignore"):
        return float(np.array(value).astype(dtype))


class Stack:
    """The members of a rasterio dataset that reading uses, over several files. Band numbers from 1."""

    subdatasets: tuple[str, ...] = ()

    def __init__(self, files: Sequence[_File], resampling: str) -> None:
        self._files = list(files)
        for file in files:
            if file.dataset.count == 0:
                msg = f"{file_name(file.dataset)} holds no raster band"
                raise SourceError(msg)
        self.mask: FlagMask | None = None
        """What else has no data; whoever opens the stack sets it."""
        reference = self.reference = finest([file.dataset for file in files])
        for file in files:
            if not same_grid(file.dataset, reference):
                file.warped = warp(
                    file.dataset,
                    reference,
                    resampling=resampling,
                    # The warper takes a mask or values: pixels that the mask holds are data to it.
                    nodata=file.nodata
                    if file.masked or file.filled is None
                    else (file.filled,) * file.dataset.count,
                    alpha=file.masked,
                )
        self._bands = [(file, band) for file in files for band in range(1, file.dataset.count + 1)]
        self.height, self.width = int(reference.height), int(reference.width)
        self.count = len(self._bands)
        self.driver, self.crs, self.transform = reference.driver, reference.crs, reference.transform
        self.gcps = reference.gcps
        self.dtypes = tuple(file.dataset.dtypes[band - 1] for file, band in self._bands)
        self.nodatavals = tuple(value for file in files for value in file.nodata)
        self.rescale: Rescale = tuple(pair for file in files for pair in file.rescale)
        self.colorinterp = tuple(what for file in files for what in file.dataset.colorinterp)
        self.descriptions = tuple(text for file in files for text in file.dataset.descriptions)
        self.spacecrafts = tuple(file.spacecraft for file in files)
        self.boxes = self._boxes() if any(file.warped is not None for file in files) else ()
        self.block_shapes = [shape for file in files for shape in (file.warped or file.dataset).block_shapes]

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files:
            if file.warped is not None:
                file.warped.close()
            file.dataset.close()
        if self.mask is not None:
            self.mask.close()

    def _boxes(self) -> tuple[Box, ...]:
        """Per band where its file lies, in pixels of the stack."""
        whole = (0.0, 0.0, float(self.height), float(self.width))
        boxes = [whole if f.warped is None else box_on(f.dataset, self.reference) for f in self._files]
        return tuple(
            box for box, file in zip(boxes, self._files, strict=True) for _ in range(file.dataset.count)
        )

    def members(self) -> Iterator[tuple[str, DatasetReader]]:
        """URI and dataset of each file."""
        for file in self._files:
            yield file.uri, file.dataset

    def tags(self, ns: str | None = None) -> dict[str, str]:
        tags: dict[str, str] = self.reference.tags(ns=ns)
        return tags

    def read(self, bands: Sequence[int], *, window: RasterioWindow) -> NDArray[Any]:
        """Shape (bands, height, width) of the window, in the dtype that holds all of these bands."""
        chosen = [self._bands[band - 1] for band in bands]
        dtype = np.result_type(*(self.dtypes[band - 1] for band in bands))
        pixels = np.empty((len(bands), window.height, window.width), dtype=dtype)
        for file in self._of(bands):
            own = [(at, band) for at, (holder, band) in enumerate(chosen) if holder is file]
            part = np.empty(
                (len(own), window.height, window.width),
                dtype=np.result_type(*(file.dataset.dtypes[band - 1] for _, band in own)),
            )
            file.read([band for _, band in own], window, part)
            pixels[[at for at, _ in own]] = part
        return pixels

    def valid(self, bands: Sequence[int], window: RasterioWindow, *, masks: bool) -> NDArray[np.bool_] | None:
        """Pixels that all files of these bands cover, and that their masks hold; None: all are.

        Args:
            bands: numbers from 1.
            window: of the stack's grid.
            masks: whether masks of whole files count; what a file does not cover never has data, nor what
                the scene's flags mark.
        """
        parts = [file.covers(window) for file in self._of(bands)]
        parts += [file.read_mask(window) for file in self._of(bands) if masks and file.masked]
        if self.mask is not None:
            with _naming(self.mask.uri):
                parts.append(self.mask.unmarked(window))
        found = [part for part in parts if part is not None]
        return np.logical_and.reduce(found) if found else None

    def parts(self, bands: Sequence[int]) -> Iterator["Part"]:
        """The files that hold these bands, each with those that it holds."""
        for file in self._of(bands):
            numbers = [number for number, (holder, _) in enumerate(self._bands, start=1) if holder is file]
            yield Part(
                at=tuple(at for at, band in enumerate(bands) if band in numbers),
                alpha=frozenset(n for n in numbers if self.colorinterp[n - 1] == ColorInterp.alpha),
                masked=file.masked,
                filled=file.filled,
            )

    def _of(self, bands: Sequence[int]) -> list[_File]:
        wanted = {id(self._bands[band - 1][0]) for band in bands}
        return [file for file in self._files if id(file) in wanted]


class FileError(Exception):
    """GDAL's error, and the file of the scene that it is about."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri


@contextlib.contextmanager
def _naming(uri: str) -> Iterator[None]:
    try:
        yield
    except SourceIOError:
        raise
    except (SourceError, RasterioError, rasterio._err.CPLE_BaseError) as e:
        raise FileError(uri) from e
