"""Groups of photographs of all sizes and kinds, and those that are none."""

import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import REPOSITORY
from photo_tables import files
from photographs import encoded, listed, network_of, product_of, spots_mask, spotted
from rules import criterion

from batchseg.driver import photo_worker
from batchseg.driver.photo_worker import GroupWorker, inspect_photos, look_at
from batchseg.driver.tasks import Group, Inspected, to_stream
from batchseg.inputs.source import Doubt
from batchseg.inputs.source import compute as pc
from batchseg.output.photo_mask import read_layer
from batchseg.pixels.photo import load
from batchseg.pixels.photo.decode import decode
from batchseg.pixels.photo.load import content_digest
from batchseg.predict.photo import Fitting
from batchseg.predict.predictor import usual_batch

SIZES = [(31, 47), (16, 16), (5, 60), (1, 9), (70, 33), (8, 3)]
RULE = criterion(name="any", min_area=4.0)


class Watched:
    """A predictor that notes the sizes of its batches."""

    threads = 1

    def take_loading(self):
        return ()

    def __init__(self, predictor):
        self.predictor, self.sizes = predictor, []

    def run(self, batch):
        self.sizes.append(len(batch))
        return self.predictor.run(batch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of many sizes and kinds, in two folders that share names."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(18):
        pixels = spotted(*SIZES[number % 6], seed=number)
        kinds = {
            "a.png": encoded(pixels),
            "b.jpg": encoded(pixels, "JPEG", quality=95),
            "c.png": encoded(np.dstack([pixels, pixels[..., 0] // 60 * 80])),
            "d.bmp": encoded(pixels[..., 0], "BMP"),
        }
        kind = list(kinds)[number % 4]
        path = root / f"line {number % 2}" / f"{number // 2:02d}{kind}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(kinds[kind])
    return root


def group_of(images, work="predict", results=None):
    return Group(
        id=1,
        work=work,
        images=to_stream(images),
        results=b"" if results is None else to_stream(results),
        count=images.num_rows,
        epoch=1,
    )


def worker_of(models, output, *, fit="tile", batch_size=7, readers=2, **options):
    recipe, predictor = network_of(models, fit=fit)
    return GroupWorker(
        str(output),
        recipe,
        product_of(RULE, **options),
        Watched(predictor),
        batch_size=batch_size,
        readers=readers,
        cpu_class="avx2",
    )


@pytest.mark.parametrize("fit", ["tile", "resize"])
def test_results_do_not_depend_on_batches_groups_or_threads(models, tmp_path, folder, fit, monkeypatch):
    images = listed(folder)
    many = worker_of(models, tmp_path / "a", fit=fit)
    answer = many(group_of(images))
    assert not answer.doubts and answer.rows["source_id"].equals(images["source_id"])
    assert set(many._predictor.sizes[:-1]) == {7}
    assert sum(many._predictor.sizes) == answer.tiles == sum(answer.rows["predicted"].to_pylist())
    assert answer.pixels == sum(
        h * w for h, w in zip(*(answer.rows[n].to_pylist() for n in ("height", "width")), strict=True)
    )
    single = worker_of(models, tmp_path / "b", fit=fit, batch_size=1, readers=1)
    monkeypatch.setattr(load, "CHUNK_FILES", 1)
    assert single(group_of(images)).rows.equals(answer.rows)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for row in answer.rows.to_pylist():
        data = (folder / row["source_id"]).read_bytes()
        picture = decode(data, "x")
        mask = read_layer((tmp_path / "a" / row["outputs"][0]["path"]).read_bytes())
        assert mask.shape == picture.size_hw
        if fit == "tile":
            expected = spots_mask(np.broadcast_to(picture.pixels, (*picture.size_hw, 3)))
            valid = np.ones(mask.shape, bool) if picture.valid is None else picture.valid
            assert np.array_equal(mask, np.where(valid, expected, 255))
    assert set(answer.rows["verdict"].to_pylist()) == {"PASS", "FAIL"}
    assert min(answer.read_seconds, answer.predict_seconds, answer.stitch_seconds, answer.write_seconds) > 0


def test_a_worker_does_group_after_group(models, tmp_path, folder):
    images = listed(folder)
    made = worker_of(models, tmp_path / "a")
    one = worker_of(models, tmp_path / "b")(group_of(images)).rows
    parts = pa.concat_tables([made(group_of(images.slice(at, 5))).rows for at in range(0, 18, 5)])
    outputs = parts.schema.get_field_index("outputs")
    assert parts.remove_column(outputs).equals(one.remove_column(outputs))


def test_what_takes_more_than_its_share_is_left_and_done_alone(models, tmp_path, folder, monkeypatch):
    images = listed(folder)
    expected = worker_of(models, tmp_path / "a")(group_of(images)).rows
    made = worker_of(models, tmp_path / "b")
    monkeypatch.setattr(photo_worker, "memory_share", lambda: 12_000)
    answer = made(group_of(images))
    assert answer.large and not answer.doubts
    names = [name for name in images["source_id"].to_pylist() if name not in answer.large]
    assert answer.rows["source_id"].to_pylist() == names
    rows = {row["source_id"]: row for row in answer.rows.to_pylist()}
    for name in answer.large:
        one = images.filter(pc.equal(images["source_id"], name))
        (rows[name],) = made(replace(group_of(one), alone=True)).rows.to_pylist()
    for row in expected.to_pylist():
        assert rows[row["source_id"]]["class_pixels"] == row["class_pixels"]
    assert files(tmp_path / "a").items() >= {
        (path, data) for path, data in files(tmp_path / "b").items() if "annotations" not in str(path)
    }


def test_what_is_large_is_not_looked_at_beside_others(models, tmp_path):
    data = encoded(spotted(400, 300), "JPEG")
    (tmp_path / "large.jpg").write_bytes(data[: len(data) // 2])
    (row,) = listed(tmp_path).to_pylist()
    recipe, _ = network_of(models)
    assert look_at(row, recipe, share=400 * 300 * 3) is None
    assert look_at(row, recipe, share=len(data) // 3) is None
    assert "cut off" in look_at(row, recipe).reason


def test_what_takes_more_than_the_job_allows_is_in_doubt_wherever_it_is_looked_at(models, tmp_path, folder):
    images = listed(folder)
    answer = worker_of(models, tmp_path)(replace(group_of(images), memory=12_000))
    assert answer.doubts and answer.rows.num_rows
    assert all("at most 1 MiB are allowed (max_photo_memory)" in doubt.reason for doubt in answer.doubts)
    recipe, _ = network_of(models)
    assert inspect_photos(images.to_pylist(), recipe, 60, memory=12_000).doubts == answer.doubts


@pytest.fixture
def troubled(tmp_path):
    """A folder of sound photographs and others, and its listing."""
    root = tmp_path / "in"
    root.mkdir()
    sound = encoded(spotted(31, 47), "JPEG", quality=95)
    made = {
        "0 sound.jpg": sound,
        "1 cut.jpg": sound[: len(sound) // 2],
        "2 empty.jpg": b"",
        "3 text.jpg": b"Dear colleague, please find attached",
        "4 heic.jpg": b"\0\0\0\x18ftypheic" + bytes(99),
        "5 gone.jpg": sound,
        "6 changed.jpg": sound,
        "7 other.tif": encoded(spotted(9, 7)[..., 0].astype(np.float32), "TIFF"),
        "8 named.jpg": sound,
        "9 last.png": encoded(spotted(9, 7)),
    }
    for name, data in made.items():
        (root / name).write_bytes(data)
    images = listed(root, **{"8 named_jpg": "there is no such file; bring it back"})
    (root / "5 gone.jpg").unlink()
    (root / "6 changed.jpg").write_bytes(sound + b"\0")
    (tmp_path / "a folder").mkdir()
    strange = images.slice(0, 1).to_pylist()[0] | {"source_id": "x", "uri": str(tmp_path / "a folder")}
    return pa.concat_tables([images, pa.Table.from_pylist([strange], schema=images.schema)])


EXPECTED = {
    "1 cut.jpg": ("cut off", {"is_own"}),
    "2 empty.jpg": ("the file is empty", {"is_own"}),
    "3 text.jpg": ("no image: it begins with text", {"is_own"}),
    "4 heic.jpg": (
        # The head alone of one: without the extra it is not decoded.
        "damaged or cut off" if find_spec("pillow_heif") else "is a HEIC picture",
        {"is_own"},
    ),
    "5 gone.jpg": ("the file is gone", {"transient"}),
    "6 changed.jpg": ("the file changed", {"transient"}),
    "7 other.tif": ("bands, the job asks for band 3", {"is_mismatch", "is_own"}),
    "8 named.jpg": ("there is no such file", {"is_own"}),
    "x": ("the storage does not give the file: Is a directory", {"transient"}),
}


def check(doubts):
    assert [doubt.source_id for doubt in doubts] == list(EXPECTED)
    for doubt in doubts:
        reason, flags = EXPECTED[doubt.source_id]
        assert reason in doubt.reason.replace("1 band,", "bands,")
        set_ = {name for name in ("transient", "is_mismatch", "is_own") if getattr(doubt, name)}
        assert set_ == set(flags), doubt


def test_what_cannot_be_done_is_in_doubt_and_the_others_are_done(models, tmp_path, troubled):
    made = worker_of(models, tmp_path / "out", same_content=True)
    recipe, _ = network_of(models)
    made._recipe = replace(recipe, bands=(1, 2, 3), all_bands=False)
    answer = made(group_of(troubled))
    check(answer.doubts)
    assert answer.rows["source_id"].to_pylist() == ["0 sound.jpg", "9 last.png"]
    for row in answer.rows.to_pylist():
        assert row["content"] == content_digest(Path(row["uri"]).read_bytes())
    check([d for row in troubled.to_pylist() if (d := look_at(row, made._recipe)) is not None])


def test_values_that_the_scale_does_not_know_are_a_mismatch(models, tmp_path):
    (tmp_path / "deep.png").write_bytes(encoded(spotted(9, 7)[..., 0].astype(np.uint16) * 256))
    recipe, _ = network_of(models)
    recipe = replace(recipe, scale=replace(recipe.scale, kind="transforms", high=(255.0,)))
    (row,) = listed(tmp_path).to_pylist()
    doubt = look_at(row, recipe)
    assert doubt is not None
    assert doubt.is_mismatch and "uint16" in doubt.reason


def test_contents_are_hashed_of_those_that_can_be_read(models, tmp_path, troubled):
    answer = worker_of(models, tmp_path / "out")(group_of(troubled, "hash"))
    assert answer.rows["source_id"].to_pylist() == [
        name for name in troubled["source_id"].to_pylist() if not name.startswith(("5", "6", "8", "x"))
    ]
    contents = dict(zip(*(column.to_pylist() for column in answer.rows.columns), strict=True))
    for name, content in contents.items():
        assert content == content_digest((tmp_path / "in" / name).read_bytes())
    assert len(set(contents.values())) == len(contents)
    nothing = worker_of(models, tmp_path / "out")(group_of(troubled.slice(5, 2), "hash")).rows
    assert (nothing.num_rows, nothing.schema) == (0, answer.rows.schema)


def test_other_outputs_are_derived_from_stored_ones(models, tmp_path, folder):
    images = listed(folder)
    rows = worker_of(models, tmp_path / "a", masks="none")(group_of(images)).rows
    expected = worker_of(models, tmp_path / "b", masks="all")(group_of(images)).rows
    again = worker_of(models, tmp_path / "a", masks="all")
    answer = again(group_of(images, "derive", rows))
    assert not again._predictor.sizes and not answer.tiles
    doubtful = {doubt.source_id for doubt in answer.doubts}
    assert doubtful == {  # regions do not tell what was transparent
        row["source_id"] for row in expected.to_pylist() if row["valid_pixels"] < row["height"] * row["width"]
    }
    assert all(doubt.transient for doubt in answer.doubts)
    sound = pa.array([name not in doubtful for name in images["source_id"].to_pylist()])
    names = [name for name in rows.column_names if name != "outputs"]
    assert answer.rows.select(names).equals(expected.filter(sound).select(names))
    for row in answer.rows.to_pylist():
        path = row["outputs"][0]["path"]
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_a_copy_says_whose_results_it_has(models, tmp_path, folder):
    images = listed(folder).slice(0, 2)
    rows = worker_of(models, tmp_path / "a")(group_of(images)).rows
    original = pa.concat_tables([rows.slice(0, 1), rows.slice(0, 1)])
    copied = worker_of(models, tmp_path / "a")(group_of(images, "derive", original)).rows
    assert copied["same_as"].to_pylist() == ["", images["source_id"][0].as_py()]
    assert copied["source_id"].equals(images["source_id"])
    assert copied["class_pixels"][1] == rows["class_pixels"][0]


def test_a_photograph_that_ends_its_process_is_found(models, tmp_path, monkeypatch, folder):
    shutil.copytree(folder / "line 0", tmp_path / "in")
    rows = listed(tmp_path / "in").to_pylist()[:3]
    Path(rows[2]["uri"]).write_bytes(b"")
    search = os.pathsep.join([str(REPOSITORY / "tests" / "faults" / "inject"), str(REPOSITORY)])
    monkeypatch.setenv("PYTHONPATH", search)
    monkeypatch.setenv("FAULT_ABORT", rows[0]["source_id"])
    recipe, _ = network_of(models)
    died, changed = inspect_photos(rows, recipe, timeout=60).doubts
    reason = "the process that decoded it was ended by SIGABRT"
    assert died == Doubt(source_id=rows[0]["source_id"], reason=reason, transient=False)
    assert (changed.source_id, changed.transient) == (rows[2]["source_id"], True)
    assert inspect_photos([], recipe, timeout=60) == Inspected(doubts=())
    assert inspect_photos(rows[1:], recipe, timeout=0).left == (rows[2]["source_id"],)


def test_usual_batches_are_large_for_small_tiles_alone(models):
    recipe, _ = network_of(models)
    sizes = [usual_batch(replace(recipe, tile_size=side)) for side in (64, 256, 512, 1024)]
    assert sizes == [16, 4, 1, 1]
    assert usual_batch(replace(recipe, device="gpu", tile_size=1024)) == 16


def test_errors_of_the_model_are_not_the_photographs(models, tmp_path, folder, monkeypatch):
    def broken(self, number, answer):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(Fitting, "place", broken)
    with pytest.raises(RuntimeError, match="no kernel"):
        worker_of(models, tmp_path)(group_of(listed(folder)))


def test_a_group_ends_after_its_seconds_and_says_what_is_left(tmp_path, models, folder):
    images = listed(folder)
    answer = worker_of(models, tmp_path, batch_size=1)(replace(group_of(images), seconds=0.0))
    done = answer.rows["source_id"].to_pylist()
    assert 1 <= len(done) < images.num_rows
    assert [*done, *answer.left] == images["source_id"].to_pylist()


def test_rows_do_not_depend_on_how_much_is_decoded_at_once(tmp_path, models, folder, monkeypatch):
    group = group_of(listed(folder))
    expected = worker_of(models, tmp_path / "a")(group)
    monkeypatch.setattr(load, "DECODED_BYTES", 1)
    monkeypatch.setattr(load, "AHEAD_BYTES", 1)
    assert worker_of(models, tmp_path / "b")(group).rows.equals(expected.rows)
