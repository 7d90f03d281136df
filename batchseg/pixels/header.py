"""What a source says of itself: its size, bands, types and place, or why it is refused."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial

import rasterio
from rasterio.enums import ColorInterp

from batchseg.errors import BatchsegError, GridError, SourceError
from batchseg.inputs.formats import check_crs
from batchseg.inputs.source import ControlPoint, Georeference, Refusal, Scene, Source
from batchseg.pixels import landsat
from batchseg.pixels.band_colors import colors_of_names
from batchseg.pixels.frames import check_one_frame
from batchseg.pixels.gdal import NOT_GIVEN, gdal, source_errors, storage_problem
from batchseg.pixels.open import storage_failure
from batchseg.pixels.stack import Stack, open_source, rescale_of
from batchseg.system import fetch, storage
from batchseg.system.file_info import file_info
from batchseg.system.processes import ProcessDiedError, each_in_fresh_process
from batchseg.system.threads import Helper

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


def read_some_headers(sources: Sequence[Source]) -> list[Scene | Refusal]:
    """Headers in the sources' order; of those in buckets side by side, as each takes some round trips."""
    remote = next((source.uri for source in sources if not source.is_local), "")
    return storage.at_once(read_header, sources, remote)


def read_headers_here(sources: Iterable[Source], timeout: float) -> Iterator[Scene | Refusal]:
    """Headers read in this process, one after the other; refusals come last.

    Args:
        sources: each is asked for when the one before it was read.
        timeout: seconds for each; one that hangs is left to its thread.
    """
    doubtful: list[Source] = []
    helper = Helper()  # the others load the model meanwhile
    for source in sources:
        reading = helper.start(partial(read_header, source))
        if not wait([reading], timeout=timeout).done:
            helper.give_up()
            helper = Helper()
            doubtful.append(source)
        elif isinstance(answer := reading.result(), Scene):
            yield answer
        else:
            doubtful.append(source)
    helper.close()
    if doubtful:  # a refusal stands only if it recurs in a fresh process
        yield from read_headers_alone(doubtful, timeout)


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
        check_one_frame(uri, member)
    roles, satellite = _roles(source, dataset)
    alpha = _alpha_bands(source, dataset, roles)
    names = _band_names(source, dataset, alpha)
    return Scene(
        source=source,
        driver=dataset.driver,
        height=dataset.height,
        width=dataset.width,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        alpha_bands=alpha,
        block_hw=dataset.block_shapes[0],
        georeference=_georeference(dataset),
        rescale=rescale_of(dataset),
        band_names=names,
        roles=roles if any(roles) else (),
        satellite=satellite,
        boxes=dataset.boxes if isinstance(dataset, Stack) else (),
        colors=tuple("" if what in COLORLESS else what.name for what in dataset.colorinterp),
    )


def _alpha_bands(
    source: Source, dataset: rasterio.DatasetReader | Stack, roles: Sequence[str]
) -> tuple[int, ...]:
    """Numbers from 1 of the bands that are tagged as alpha and that nothing calls a colour.

    GDAL calls the fourth band of any 8-bit file alpha, near infrared too. What the job calls a file is the
    colour of its only band; of several bands each file's own descriptions count.
    """
    named: tuple[str, ...] = ()
    if isinstance(dataset, Stack):
        by_job = iter(colors_of_names(source.names) or ("",) * len(source.rasters))
        for _, member in dataset.members():
            color = next(by_job)
            own = colors_of_names(_descriptions(member)) or ("",) * member.count
            named += (color or own[0],) if member.count == 1 else own
    else:
        named = colors_of_names(_descriptions(dataset)) or ("",) * dataset.count
    look = zip(dataset.colorinterp, named, roles, strict=True)
    return tuple(
        number
        for number, (what, color, role) in enumerate(look, start=1)
        if what == ColorInterp.alpha and not (color or role)
    )


def _band_names(
    source: Source, dataset: rasterio.DatasetReader | Stack, alpha: Collection[int]
) -> tuple[str, ...]:
    """What the job calls a file is the name of its only band of data; others count: `rgb 1`, `rgb 2`."""
    own = _descriptions(dataset)
    if not isinstance(dataset, Stack) or not source.names:
        return own if any(own) else ()
    names: list[str] = []
    for name, (_, member) in zip(source.names, dataset.members(), strict=True):
        numbers = range(1, member.count + 1)
        data = [number for number in numbers if len(names) + number not in alpha]
        only = data[0] if len(data) == 1 else 1 if member.count == 1 else 0
        names += [name if number == only else f"{name} {number}" for number in numbers]
    return tuple(names)


def _roles(source: Source, dataset: rasterio.DatasetReader | Stack) -> tuple[tuple[str, ...], str]:
    """Of all files' bands, and the satellite of the first that is known."""
    if not isinstance(dataset, Stack):
        return landsat.roles(source.uri, _descriptions(dataset))
    found = [
        landsat.roles(uri, _descriptions(member), spacecraft=spacecraft)
        for (uri, member), spacecraft in zip(dataset.members(), dataset.spacecrafts, strict=True)
    ]
    satellites = [satellite for _, satellite in found if satellite]
    return tuple(role for roles, _ in found for role in roles), satellites[0] if satellites else ""


def _descriptions(dataset: rasterio.DatasetReader | Stack) -> tuple[str, ...]:
    return tuple((text or "").strip()[:NAME_CHARACTERS] for text in dataset.descriptions)


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
