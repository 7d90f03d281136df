"""Scenes as rows of a listing, and rows as sources.

What is the same for all scenes of an input is not repeated: rows of a scene set say which of the job's
inputs they are of.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from batchseg.inputs.found import FOUND, Clock, texts
from batchseg.inputs.ids import in_utf8
from batchseg.inputs.one_scene import SceneFiles
from batchseg.inputs.source import BandMetadata, Column, Said, Source, SourceMask
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig, MaskFlags, SceneSet
from batchseg.system import walk
from batchseg.system.file_info import FileInfo, digest_of, digests_of, file_infos
from batchseg.system.json_text import parse_json

SAMPLED = 64
"""Sources that engines may be tried on."""

NAMED = FOUND.append(pa.field("name", pa.string()))
"""FOUND, and what a scene of a set is called; empty: as its first file."""


def file_rows(
    files: walk.Files,
    problems: Column,
    clock: Clock,
    beside: Mapping[int, Sequence[FileInfo]],
    metadata: Mapping[int, FileInfo],
) -> pa.Table:
    """FOUND rows of scenes of one file each.

    Args:
        files: the rasters.
        problems: why no file can have such a name, or empty; one for each.
        clock: says which are young.
        beside: sidecars, by the place of the file that has any.
        metadata: the same, of files that say how to scale a raster's values.
    """
    uris, unspeakable = texts(files.uris)
    tags = digests_of(files.uris, files.sizes, files.every_version())
    columns = {
        "uri": uris,
        "tag": tags,
        "size": files.sizes,
        "young": clock.young(files.modified),
        "problem": pc.if_else(pc.equal(unspeakable, ""), problems, unspeakable),
        "attributes": pa.repeat("", len(tags)),
        "more": pa.repeat("", len(tags)),
    }
    if beside or metadata:
        infos, young, more = list(files.infos()), columns["young"].to_pylist(), [""] * len(tags)
        for at in {*beside, *metadata}:
            own = infos[at]
            asked = [metadata[at]] if at in metadata else []
            whole = [own, *beside.get(at, ()), *asked]
            said = {"files": [info.uri for info in whole]}
            if asked:
                said |= {"rasters": [own.uri], "metadata": [info.uri for info in asked]}
            more[at] = json.dumps(said)
            tags[at] = _tag(whole, [own.uri] if asked else [])
            young[at] = any(clock.is_young(info.modified) for info in whole)
        columns |= {"young": young, "more": more}
    return pa.table(columns, schema=FOUND)


def set_rows(scenes: Iterable[SceneFiles], number: int, given: SceneSet, clock: Clock) -> pa.Table:
    """NAMED rows of a set's scenes. `number`: of the set among the job's inputs."""
    rows = [_set_row(scene, number, given, clock) for scene in scenes]
    return pa.Table.from_pylist(rows, schema=NAMED)


def _set_row(scene: SceneFiles, number: int, given: SceneSet, clock: Clock) -> dict[str, Any]:
    masks = [scene.mask] if scene.mask else []
    infos = list({info.uri: info for info in (*scene.rasters, *masks, *scene.beside)}.values())
    uri, unspeakable = in_utf8(scene.uri)
    problem = unspeakable or in_utf8(scene.problem)[0]
    rasters = [info.uri for info in scene.rasters]
    said = [[dataclasses.astuple(band) for band in bands] for bands in scene.said]
    more = {"of": number, "files": [info.uri for info in infos], "rasters": rasters}
    more |= {"metadata": scene.metadata, "said": said}
    mask = None
    if scene.mask and given.mask:
        more["mask"] = scene.mask.uri
        mask = _mask(scene.mask.uri, given.mask, scene.mask_bands)
        more |= {"mask_bands": scene.mask_bands} if scene.mask_bands else {}
    return {
        "uri": uri,
        "tag": _tag(infos, rasters, resampling=given.resampling, said=scene.said, problem=problem, mask=mask),
        "size": _together(scene.rasters),
        "young": any(clock.is_young(info.modified) for info in infos),
        "problem": problem,
        "attributes": "",
        "more": json.dumps(more),
        "name": "".join(c if c.isprintable() else "_" for c in scene.name),
    }


def _mask(uri: str, flags: MaskFlags, bands: Sequence[int]) -> SourceMask:
    """By what its own file holds, if that is not what the input's files hold."""
    if bands:
        return SourceMask(uri=uri, by="bands", numbers=tuple(bands))
    return SourceMask(uri=uri, by=flags.by, numbers=flags.numbers)


def _together(infos: Sequence[FileInfo]) -> int | None:
    """Bytes of all; None where those of one are not said."""
    sizes = [info.size for info in infos if info.size is not None]
    return sum(sizes) if len(sizes) == len(infos) else None


def to_sources(rows: pa.Table, config: JobConfig) -> list[Source]:
    """What some rows of a job's listing stand for."""
    return [_source(row, config) for row in rows.to_pylist()]


def _source(row: Mapping[str, Any], config: JobConfig) -> Source:
    more = parse_json(row["more"]) if row["more"] else {}
    given = config.inputs[more["of"]][1] if "of" in more else None
    of_set = given if isinstance(given, SceneSet) else None
    flags = of_set.mask if of_set and "mask" in more else None
    return Source(
        source_id=row["source_id"],
        uri=row["uri"],
        files=tuple(more.get("files", (row["uri"],))),
        tag=row["tag"],
        size=row["size"],
        problem=row["problem"],
        rasters=tuple(more.get("rasters", ())),
        names=of_set.names if of_set else (),
        resampling=of_set.resampling if of_set else "none",
        metadata=tuple(more.get("metadata", ())),
        said=tuple(tuple(_band(*cells) for cells in bands) for bands in more.get("said", ())),
        mask=_mask(more["mask"], flags, more.get("mask_bands", ())) if flags else None,
        allow_vrt=config.allow_vrt,
        young=row["young"],
    )


def _band(scale: float | None, offset: float, nodata: float | None, spacecraft: str) -> BandMetadata:
    return BandMetadata(scale=scale, offset=offset, nodata=nodata, spacecraft=spacecraft)


def some_sources(listing: pa.Table, config: JobConfig) -> list[Source]:
    """Some of a listing, for trials of engines."""
    count = min(listing.num_rows, SAMPLED)
    # From the middle of as many equal stretches: ids that are neighbours are often images of one object.
    chosen = pa.array([(2 * n + 1) * listing.num_rows // (2 * count) for n in range(count)], pa.int64())
    return to_sources(listing.take(chosen), config)


def _tag(
    infos: Sequence[FileInfo],
    rasters: Sequence[str],
    *,
    resampling: str = "none",
    said: Said = (),
    problem: str = "",
    mask: SourceMask | None = None,
) -> str:
    """Of one file: its digest. Of several, their order and whatever else decides their pixels count too.

    The STAC file that lists them is in no tag: one more item must not repeat all scenes.
    """
    whole = digest_of(list(infos))
    if infos and not rasters:
        return whole
    by_uri = {info.uri: digest_of([info]) for info in infos}
    values = [[(band.scale, band.offset, band.nodata) for band in bands] for bands in said]
    order = [by_uri.get(uri) for uri in rasters]
    # Of an earlier version a pixel had data where any file did: such masks are made again.
    more = ["each file's validity counts"] if len(rasters) > 1 else []
    if mask is not None:
        more.append(json.dumps([by_uri.get(mask.uri), mask.by, mask.numbers]))
    words = json.dumps([whole, order, resampling, values, problem, *more])
    return hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:16]


def current_tag(source: Source) -> str | None:
    """The tag of the source's files as they are now; None where a raster is gone.

    Raises:
        SourceIOError: the storage does not answer.
    """
    infos = file_infos(source.files)
    opened = source.opened if source.rasters else source.files[:1]
    if any(infos[uri] is None for uri in opened):
        return None
    return _tag(
        [info for info in infos.values() if info is not None],
        source.rasters,
        resampling=source.resampling,
        said=source.said,
        problem=source.problem,
        mask=source.mask,
    )
