"""Which recorded results are still there, on a disk and in a bucket."""

import fsspec
import pyarrow as pa
import pytest

from batchseg.driver import stored_outputs as module
from batchseg.driver.stored_outputs import GONE, MASK_ALONE, WHOLE, StoredOutputs


@pytest.fixture(params=["disk", "bucket"])
def output(request, tmp_path):
    """An output with a few results, and what deletes one."""
    names = {"masks/a/1.png": 3, "masks/a b/照#1%.png": 4, "annotations/crs=none/part-1.parquet": 5}
    if request.param == "disk":
        root, fs = str(tmp_path / "out"), fsspec.filesystem("file")
    else:
        root, fs = "memory:///out", fsspec.filesystem("memory")
    for name, size in names.items():
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", b"x" * size)
    yield root, names
    fs.rm(root, recursive=True)


@pytest.mark.parametrize("as_held", [False, True])
def test_results_are_there_if_all_files_have_their_size(output, monkeypatch, as_held):
    root, names = output
    mask, other, part = names
    rows = [
        [mask, part],
        [],
        [other, part],
        [mask, "masks/gone.png"],
        [(other, 9)],
        [part],
        [mask, (part, 1)],
        [],
    ]
    flags = [True, True, True, False, False, True, False, True]
    cells = [
        [
            {"path": o, "nbytes": names.get(o, 7)}
            if isinstance(o, str)
            else dict(zip(("path", "nbytes"), o, strict=True))
            for o in row
        ]
        for row in rows
    ]
    path = pa.dictionary(pa.int32(), pa.string()) if as_held else pa.string()
    kind = pa.list_(pa.struct([("path", path), ("nbytes", pa.int64()), ("sha256", pa.string())]))
    monkeypatch.setattr(module, "ROWS", 3)
    whole = pa.array(cells, kind)
    for column in (pa.chunked_array([whole]), pa.chunked_array([whole.slice(0, 2), whole.slice(2)])):
        assert (StoredOutputs(root)(column) == WHOLE).tolist() == flags
    assert StoredOutputs(root)(pa.chunked_array([], kind)).tolist() == []


KIND = pa.list_(pa.struct([("path", pa.string()), ("nbytes", pa.int64()), ("sha256", pa.string())]))


def column_of(*rows: list[tuple[str, int]]) -> pa.ChunkedArray:
    cells = [[{"path": path, "nbytes": size} for path, size in row] for row in rows]
    return pa.chunked_array([pa.array(cells, KIND)])


def test_of_scenes_it_is_told_whether_the_mask_is_there(tmp_path):
    for name, size in {"masks/a.tif": 5, "masks/a.tif.aux.xml": 2, "confidence/a.tif": 7}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    mask, names, confidence = ("masks/a.tif", 5), ("masks/a.tif.aux.xml", 2), ("confidence/a.tif", 7)
    gone = ("annotations/crs=none/b.parquet", 4)
    rows = [
        [mask, names, confidence],
        [mask, gone],
        [mask, ("confidence/a.tif", 8), gone],
        [gone, ("masks/b.tif", 5)],
        [mask, ("masks/a.tif.aux.xml", 3)],
        [],
    ]
    stored = StoredOutputs(str(tmp_path), ("a", "b"), bare=GONE)(column_of(*rows))
    assert stored.tolist() == [WHOLE, MASK_ALONE, GONE, GONE, MASK_ALONE, GONE]


def test_a_clean_mask_is_made_again_of_what_was_predicted(tmp_path):
    (tmp_path / "predicted").mkdir()
    (tmp_path / "predicted" / "a.tif").write_bytes(b"x" * 6)
    mask, predicted = ("masks/a.tif", 5), ("predicted/a.tif", 6)
    confidence = ("confidence/a.tif", 7)
    rows = [
        [mask, predicted],
        [mask],
        [mask, ("predicted/a.tif", 5)],
        [mask, predicted, confidence],
        [predicted],
    ]
    stored = StoredOutputs(str(tmp_path), bare=GONE)(column_of(*rows))
    assert stored.tolist() == [MASK_ALONE, GONE, GONE, GONE, WHOLE]


def test_a_file_of_class_names_may_have_grown(tmp_path):
    (tmp_path / "masks").mkdir()
    text = (
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames>{}</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    names = "<Category>soil</Category><Category>water</Category>"
    (tmp_path / "masks" / "a.tif.aux.xml").write_text(text.format(names))
    column = column_of([("masks/a.tif.aux.xml", 3)])
    assert StoredOutputs(str(tmp_path), ("soil", "water"))(column).tolist() == [WHOLE]
    assert StoredOutputs(str(tmp_path), ("soil", "ice"))(column).tolist() == [MASK_ALONE]
