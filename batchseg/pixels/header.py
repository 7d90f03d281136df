"""What a source says of itself: its size, bands, types and place, or why it is refused."""

from collections.abc import Iterator, Sequence

import rasterio
from rasterio.enums import ColorInterp

from batchseg.errors import BatchsegError, GridError, SourceError
from batchseg.inputs.formats import check_crs
from batchseg.inputs.source import ControlPoint, Georeference, Refusal, Scene, Source
from batchseg.pixels.frames import check_one_frame
from batchseg.pixels.gdal import NOT_GIVEN, gdal, source_errors, storage_problem
from batchseg.pixels.open import storage_failure
from batchseg.pixels.stack import Stack, open_source, rescale_of
from batchseg.system import fetch
from batchseg.system.file_info import file_info
from batchseg.system.processes import ProcessDiedError, each_in_fresh_process

COLORLESS = (ColorInterp.undefined, ColorInterp.gray)

NAME_CHARACTERS = 60
"""Of a band's description: a file may hold megabytes there."""

PNG_END = b"IEND\xaeB`\x82"


def read_header(source: Source) -> Scene | Refusal:
    """Open a source and read what its header says.

    Raises:
        StoppedError: no source is to blame: credentials, a disk that is full.
    """
    if source.problem:
        return Refusal(source=source, reason=source.problem)
    try:
        with gdal(), source_errors("no raster, or its header is damaged", source):
            if source.size == 0 and file_info(source.uri) is not None:
                msg = "the file is empty"
                raise SourceError(msg)
            with open_source(source) as dataset:
                return _scene(source, dataset)
    except GridError as e:
        return Refusal(source=source, reason=str(e), mismatch=True)
    except SourceError as e:
        return Refusal.of(source, e)
    except BatchsegError:
        raise
    except Exception as e:  # noqa: BLE001  a defect over one source must not end a night
        return _unforeseen(source, e)


def _unforeseen(source: Source, error: Exception) -> Refusal:
    """Of an error that no module foresaw: the content's, unless the storage did not give it."""
    failure = storage_failure()
    problem = f"{NOT_GIVEN}: {failure}" if failure else storage_problem(source)
    if problem:
        return Refusal(source=source, reason=problem, transient=True)
    line = next(iter(str(error).splitlines()), "")
    return Refusal(source=source, reason=f"opening it failed: {type(error).__name__}: {line}")


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
    transient = error.hung and not source.is_local
    return Refusal(source=source, reason=f"the process that {doing} it {error}", transient=transient)


def _scene(source: Source, dataset: rasterio.DatasetReader | Stack) -> Scene:
    if dataset.count == 0:
        inner = (
            f" with {len(dataset.subdatasets)} subdatasets; name one of them" if dataset.subdatasets else ""
        )
        msg = f"the file holds no raster band{inner}"
        raise SourceError(msg)
    for uri, member in dataset.members() if isinstance(dataset, Stack) else [(source.uri, dataset)]:
        if member.driver == "PNG" and PNG_END not in fetch.read_tail(uri, 4096):
            msg = "the PNG has no end: it was cut off"  # GDAL reads such files without a word
            raise SourceError(msg)
        check_one_frame(member)
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
        band_names=_band_names(source, dataset),
        colors=tuple("" if what in COLORLESS else what.name for what in dataset.colorinterp),
    )


def _band_names(source: Source, dataset: rasterio.DatasetReader | Stack) -> tuple[str, ...]:
    own = tuple((text or "").strip()[:NAME_CHARACTERS] for text in dataset.descriptions)
    if not isinstance(dataset, Stack) or not source.names:
        return own if any(own) else ()
    members = [member for _, member in dataset.members()]
    names: list[str] = []
    for name, member in zip(source.names, members, strict=True):
        names += (
            [name] if member.count == 1 else [f"{name} {number}" for number in range(1, member.count + 1)]
        )
    return tuple(names)


def _georeference(dataset: rasterio.DatasetReader | Stack) -> Georeference:
    points, gcps_crs = dataset.gcps
    transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
    crs_wkt = dataset.crs.to_wkt() if dataset.crs else None
    check_crs(crs_wkt or "")
    return Georeference(
        crs_wkt=crs_wkt,
        transform=transform,
        gcps=tuple(
            ControlPoint(row=p.row, col=p.col, x=p.x, y=p.y, z=p.z or 0.0, id=p.id or str(i))
            for i, p in enumerate(points, start=1)
        ),
        gcps_crs_wkt=gcps_crs.to_wkt() if gcps_crs else None,
        rpcs=tuple(sorted(dataset.tags(ns="RPC").items())),
    )
