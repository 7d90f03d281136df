"""Scenes of one input, in columns: files of folders, globs and manifests, and sets of several files each."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from batchseg.errors import ConfigError
from batchseg.inputs.found import (
    FOUND,
    Clock,
    check_web,
    nothing_of,
    unreadables,
    walked,
    without_results,
)
from batchseg.inputs.ids import common_folder, is_manifest, literal_prefix
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.manifest import absolute, paths_of
from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.inputs.one_scene import SceneFiles
from batchseg.inputs.scene_rows import file_rows, set_rows
from batchseg.inputs.scene_sets import list_scenes, literal_folder
from batchseg.inputs.sidecars import Folders
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system import storage, walk
from batchseg.system.file_info import FileInfo
from batchseg.system.redact import public

RASTER_SUFFIXES = frozenset(
    (
        ".tif",
        ".tiff",
        ".gtiff",
        ".vrt",
        ".jp2",
        ".j2k",
        ".png",
        ".jpg",
        ".jpeg",
        ".bmp",
        ".webp",
        ".gif",
        ".img",
    )
)
"""What counts as a raster in a folder. A glob takes whatever it matches."""


class RasterFiles:
    """How inputs of a job over scenes are listed."""

    word = "raster"

    def __init__(self, config: JobConfig, left_out: LeftOut, clock: Clock) -> None:
        self._config, self._left_out, self._clock = config, left_out, clock
        self._folders = Folders(allow_vrt=config.allow_vrt)
        self._known: set[tuple[str, ...]] = set()
        """Rasters of all scenes of sets so far that lack nothing."""

    def listed(self, given: str | SceneSet) -> pa.Table:
        """FOUND or NAMED rows of an input. Raises ConfigError, ValueError, OSError, SourceIOError."""
        if isinstance(given, SceneSet):
            number = [other for _, other in self._config.inputs].index(given)
            return set_rows(self._unknown(given), number, given, self._clock)
        check_web(given)
        if is_manifest(given):
            return pa.concat_tables([FOUND.empty_table(), *self._members(given)])
        batches, selection = walked(given, self._config, RASTER_SUFFIXES, self._left_out)
        found = pa.concat_tables([FOUND.empty_table(), *map(self._rows, batches)])
        return without_results(found, selection)

    def prefix(self, given: str | SceneSet, found: pa.Table) -> str:
        """The folder that ids of what an input holds are relative to."""
        if isinstance(given, SceneSet):
            by_path = given.kind == "manifest" and given.id_column is None
            return (by_path and _common_folder(found)) or literal_folder(given)
        return literal_prefix(given, lambda: _common_folder(found))

    def _unknown(self, given: SceneSet) -> Iterator[SceneFiles]:
        """A set's scenes, but those of whose files another one was made."""
        left_out, allow_vrt = self._left_out, self._config.allow_vrt
        for scene in list_scenes(given, self._config.output, left_out, allow_vrt=allow_vrt):
            files = tuple(info.uri for info in scene.rasters)
            if files in self._known:
                continue
            self._known |= {files} if not scene.problem else set()
            yield scene

    def _members(self, manifest: str) -> Iterator[pa.Table]:
        """A manifest's rows; one that names no file is kept, and refused when it is opened."""
        for names in self._names(manifest):
            uris = absolute(pa.chunked_array([pa.array(names, pa.string())]), manifest).combine_chunks()
            said = unreadables(uris)
            readable = pc.equal(said, "")
            yield self._rows(walk.look(uris.filter(readable).to_pylist()))
            if not pc.all(readable).as_py():
                others = pc.invert(readable)
                yield self._refused(uris.filter(others), said.filter(others))

    def _names(self, manifest: str) -> Iterator[list[str]]:
        path = self._config.path
        try:
            yield from paths_of(manifest, self._left_out)
        except OSError as e:
            msg = f"{path}: inputs: cannot read the manifest {manifest}: {e.strerror or e}"
            raise storage.refusal(e, msg) from e
        except ValueError as e:
            msg = (
                f"{path}: inputs: {manifest} is not a manifest ({e}); it must be text with one path per "
                f"line, or CSV or Parquet with a column named uri"
            )
            raise ConfigError(msg) from e

    def _rows(self, files: walk.Files) -> pa.Table:
        beside = self._folders.of_all(files.uris)
        metadata = self._metadata_of(files.uris) if self._config.scale.kind == "metadata" else {}
        return file_rows(files, pa.repeat("", len(files.uris)), self._clock, beside, metadata)

    def _refused(self, uris: Column, said: Column) -> pa.Table:
        return file_rows(nothing_of(uris), said, self._clock, {}, {})

    def _metadata_of(self, uris: Sequence[str]) -> dict[int, FileInfo]:
        """The first there is of the files in which each raster's metadata may lie, by its place."""
        places = MetadataPlaces()
        return {at: info for at, uri in enumerate(uris) if (info := places.of(uri)) is not None}


def _common_folder(found: pa.Table) -> str:
    """Of all members of a list; empty where they have none in common."""
    if not found.num_rows:
        return ""
    ends = pc.min_max(found["uri"])
    return common_folder(public(ends["min"].as_py()), public(ends["max"].as_py()))
