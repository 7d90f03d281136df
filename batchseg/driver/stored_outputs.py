"""Which recorded results are still there, by size, in columns."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.output import layout, publish, sidecar
from batchseg.system import storage, walk
from batchseg.system.location import Location, join

ROWS = 65_536
"""Sources whose results are looked at at a time."""

GONE, WHOLE, MASK_ALONE = 0, 1, 2
"""Of a source's results: not there; all there; what was predicted is, and something that is made of it is
not."""

Codes = NDArray[np.int8]


class StoredOutputs:
    """Which recorded results are still there, by size; call it with a ledger's column `outputs`.

    On a local disk each file is asked for by itself (1.3 us against 1.7 us in a listing), a table of
    many photographs once for some ten thousand of them; a bucket is listed. A file of class names may have
    grown by what others wrote into it: it is there while it has the names.

    Args:
        output: root of the results.
        class_names: of the job.
        bare: what a source is of which no results are recorded.
    """

    def __init__(self, output: str, class_names: Sequence[str] = (), *, bare: int = WHOLE) -> None:
        self._output, self._class_names, self._bare = output, class_names, bare

    def __call__(self, outputs: Column) -> Codes:
        if Location.of(self._output).is_local:
            return self._compare(outputs, self._stat)
        listed = self._listed(outputs)
        return self._compare(
            outputs, lambda paths: pc.take(listed["size"], pc.index_in(paths, listed["path"]))
        )

    def _compare(self, outputs: Column, sizes: Callable[[Column], Column]) -> Codes:
        codes = [np.zeros(0, np.int8)]
        for chunk in outputs.chunks:
            for start in range(0, len(chunk), ROWS):
                codes.append(self._codes(chunk.slice(start, ROWS), sizes))
        return np.concatenate(codes)

    def _codes(self, outputs: Column, sizes: Callable[[Column], Column]) -> Codes:
        """Per row: its files in the size that the storage has."""
        codes = np.full(len(outputs), WHOLE, np.int8)
        codes[np.asarray(pc.equal(pc.list_value_length(outputs), 0))] = self._bare
        files = pc.list_flatten(outputs)
        if not len(files):
            return codes
        words = _paths(files)
        paths = pc.dictionary_encode(words)
        found = sizes(paths.dictionary).take(paths.indices)
        sound = np.asarray(pc.fill_null(pc.equal(found, pc.struct_field(files, "nbytes")), fill_value=False))
        odd = np.flatnonzero(~sound)
        is_there = np.asarray(pc.is_valid(found))
        of_row = np.asarray(pc.list_parent_indices(outputs))
        broken = [(at, str(words[at])) for at in odd.tolist()]
        broken = [(at, path) for at, path in broken if not (is_there[at] and self._has_names(path))]
        for at, path in broken:
            if layout.is_layer(path) and not _is_derived(path, outputs[int(of_row[at])]):
                codes[of_row[at]] = GONE
            elif codes[of_row[at]] != GONE:
                codes[of_row[at]] = MASK_ALONE
        return codes

    def _has_names(self, path: str) -> bool:
        """Whether a file of class names, of another size, still has them."""
        if not path.endswith(sidecar.SUFFIX):
            return False
        with publish.output_errors("read", self._output):
            found = sidecar.content_at(layout.result_file(self._output, path))
        return found is not None and sidecar.has_names(found, self._class_names)

    def _stat(self, paths: Column) -> Column:
        files = walk.look([join(self._output, path) for path in paths.to_pylist()])
        gone = [tag is None for tag in files.tags]
        return pa.array(files.sizes, pa.int64(), mask=np.array(gone, dtype=bool))

    def _listed(self, outputs: Column) -> pa.Table:
        """path, size of all files below the folders in which there is any of the recorded results."""
        tops: set[str] = set()
        for chunk in outputs.chunks:
            folders = pc.replace_substring_regex(_paths(pc.list_flatten(chunk)), "/.*", "")
            tops |= set(pc.unique(folders).to_pylist())
        columns: dict[str, Column] = {"path": pa.string(), "size": pa.int64()}
        schema = pa.schema(columns)
        tables = [schema.empty_table()]
        fs, root = storage.filesystem(self._output)
        prefix = fs.unstrip_protocol(root) + "/"  # as listings spell it: s3:// where the job says s3a://
        for top in sorted(tops):
            for files in walk.walk(join(self._output, top)):
                paths = [uri.removeprefix(prefix) for uri in files.uris]
                tables.append(pa.table({"path": paths, "size": files.sizes}, schema=schema))
        return pa.concat_tables(tables)


def _is_derived(path: str, outputs: Column) -> bool:
    """Whether a raster is made of another one of its source: a clean mask of what was predicted."""
    top = {str(made["path"]).partition("/")[0] for made in outputs.as_py()}
    return path.startswith(f"{layout.MASKS}/") and layout.PREDICTED in top


def _paths(files: Column) -> Column:
    """The ledger holds them as dictionaries, of which a slice need not use all words."""
    return pc.struct_field(files, "path").cast(pa.string())
