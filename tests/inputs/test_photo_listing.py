import http.server
import json
import os
import re
import shutil
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import find_sources, make_config, make_photographs
from listings import NAMES, job, listed

from batchseg.errors import ConfigError, StoppedError
from batchseg.inputs.ids import InputRoot
from batchseg.inputs.listing import list_inputs
from batchseg.job.settings import SceneSet
from batchseg.system import walk


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode(errors="surrogateescape"))


def ids(*inputs, **changes) -> list[str]:
    return listed(*inputs, **changes)["source_id"].to_pylist()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    names = [
        "z.jpg",
        "a/x.PNG",
        "a/y.jpeg",
        "a/.hidden.jpg",
        "a/y.jpeg.aux.xml",
        "b/x.tif",
        "b/x.wld",
        "b/n.txt",
    ]
    touch(tmp_path / "in", *names, *(f"c/{name}" for name in NAMES))
    touch(tmp_path / "other", "a/x.PNG", "q.webp")
    (tmp_path / "in" / "link.bmp").symlink_to(tmp_path / "other" / "q.webp")
    return tmp_path


INPUTS = [
    ["in"],
    ["in/*"],
    ["in/*/*"],
    ["in/**/*.jp*g"],
    ["in/z.jpg"],
    ["in", "other"],
    [("north", "in"), ("south", "other")],
    ["in/a", "in/b", "other/a"],
    ["in", "in/c"],
    ["in/c", "in"],
    ["in/lists/m.txt"],
    ["in/lists/m.txt", "in/b", "other"],
]


@pytest.mark.parametrize("inputs", INPUTS, ids=str)
def test_photographs_are_listed_as_scenes_are(archive, inputs):
    touch(archive, "in/lists/m.txt")
    (archive / "in" / "lists" / "m.txt").write_text("../a/x.PNG\n../../other/q.webp\n../a/gone.jpg\n")
    given = [(i[0], str(archive / i[1])) if isinstance(i, tuple) else str(archive / i) for i in inputs]
    for recorded in ({}, list_inputs(job(*given[:1]), {})[1]):
        table, roots = list_inputs(job(*given, output=str(archive / "out")), recorded)
        sources, scene_roots = find_sources(job(*given, output=str(archive / "out")), recorded)
        taken = {(s.source_id, s.uri, s.size) for s in sources if not s.uri.endswith((".txt", ".wld"))}
        rows = zip(*(table[name].to_pylist() for name in ("source_id", "uri", "size")), strict=True)
        assert {row for row in rows if not row[1].endswith(".txt")} == taken
        assert roots == scene_roots


def test_names_are_the_same_on_a_disk_and_in_a_bucket(tmp_path, bucket):
    folders = ["line 1#/", "Straße/x%2Fy/"]
    names = [folder + name for folder in folders for name in NAMES]
    touch(tmp_path / "in", *names)
    for name in names:
        fsspec.filesystem("s3").pipe_file(f"{bucket}/in/{name}", name.encode())
    (tmp_path / "m.txt").write_text("\n".join(f"{bucket}/in/{name}" for name in names))
    for inputs in (f"{tmp_path}/in", f"{bucket}/in", f"{bucket}/in/**", tmp_path / "m.txt"):
        table = listed(inputs)
        assert table["source_id"].to_pylist() == sorted(names)
        for row in table.to_pylist():
            assert walk.current_tags([row["uri"]]) == [row["tag"]]
            assert row["size"] == len(row["source_id"].encode())
            path = row["uri"].removeprefix("s3://")
            fs = fsspec.filesystem("s3" if path != row["uri"] else "file")
            assert fs.cat_file(path).decode() == row["source_id"]


def test_a_photograph_that_is_named_is_known_by_the_tag_with_which_it_is_read(tmp_path, bucket):
    touch(tmp_path / "in", "a.jpg", "b[1].jpg")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "in" / "a.jpg")
    fsspec.filesystem("s3").pipe_file(f"{bucket}/in/a.jpg", b"a")
    named = [f"{tmp_path}/in/{name}" for name in ("a.jpg", "b[1].jpg", "link.jpg")]
    for uri in (*named, f"file://{named[0]}", f"{bucket}/in/a.jpg"):
        (row,) = listed(uri).to_pylist()
        assert walk.current_tags([row["uri"]]) == [row["tag"]], uri
    tags = {row["uri"]: row["tag"] for row in listed(tmp_path / "in").to_pylist()}
    assert tags == {row["uri"]: row["tag"] for row in listed(*named).to_pylist()}


@pytest.mark.parametrize("ending", ["txt", "csv", "parquet"])
def test_rows_of_a_manifest_carry_their_columns_into_the_listing(archive, ending):
    names = ["in/z.jpg", "in/c/照片.jpg", "in/gone.jpg"]
    path = archive / f"m.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"uri": names, "line": ["1", None, "2"]}), path)
    else:
        lines = [f"{n},{line}" for n, line in zip(names, ["1", "", "2"], strict=True)]
        path.write_text("\n".join(names if ending == "txt" else ["uri,line", *lines]), encoding="utf-8")
    rows = {row["source_id"]: row for row in listed(path).to_pylist()}
    said = {key: json.loads(row["attributes"] or "{}") for key, row in rows.items()}
    expected = {"in/z.jpg": {"line": "1"}, "in/c/照片.jpg": {}, "in/gone.jpg": {"line": "2"}}
    assert said == ({key: {} for key in expected} if ending == "txt" else expected)
    assert {key for key, row in rows.items() if row["problem"]} == {"in/gone.jpg"}
    assert rows["in/gone.jpg"]["tag"] == "absent"


def test_a_server_that_does_not_answer_is_no_server_without_the_file(tmp_path, hasty):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(int(self.path[1:4]))

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "m.txt").write_text(f"{address}/404.jpg\n{address}/403.jpg\n{address}/410.jpg\n")
    assert listed(tmp_path / "m.txt")["tag"].to_pylist() == ["absent"] * 3
    for status in ("503", "429"):
        (tmp_path / "m.txt").write_text(f"{address}/{status}.jpg\n")
        with pytest.raises(StoppedError, match=f"cannot list .*cannot look at .*{status}"):
            listed(tmp_path / "m.txt")
    server.shutdown()
    server.server_close()
    (tmp_path / "m.txt").write_text(f"{address}/404.jpg\n")
    with pytest.raises(ConfigError, match=r"cannot list .*cannot look at .*[Cc]onnect"):
        listed(tmp_path / "m.txt")


def test_rows_that_say_the_same_count_once_and_others_are_that_photograph_s_problem(archive):
    path = archive / "m.csv"
    path.write_text("uri,line\nin/z.jpg,1\nin/c/../z.jpg,1\nin/b/x.tif,2\nin/z.jpg,1\n")
    assert ids(path) == ["in/b/x.tif", "in/z.jpg"]
    path.write_text("uri,line\nin/z.jpg,1\nin/b/x.tif,2\nin/z.jpg,7\nin/z.jpg,8\n")
    rows = {row["source_id"]: row for row in listed(path).to_pylist()}
    assert list(rows) == ["in/b/x.tif", "in/z.jpg"]
    assert re.search('is listed twice, with .*"1".* and with .*"7"', rows["in/z.jpg"]["problem"])
    assert "twice" not in rows["in/b/x.tif"]["problem"]
    path.write_text("uri,line\nin/z.jpg,1\n")  # mended, it is another version, which is done
    (mended,) = listed(path).to_pylist()
    assert mended["problem"] == ""
    assert mended["tag"] != rows["in/z.jpg"]["tag"]


def test_a_file_of_two_inputs_has_what_the_first_says(archive):
    (archive / "m.csv").write_text("uri,line\nin/z.jpg,1\nin/b/x.tif,1\n")
    table = listed(archive / "m.csv", archive / "in" / "b")
    assert table["attributes"].to_pylist() == ['{"line": "1"}'] * 2
    assert set(listed(archive / "in", archive / "m.csv")["attributes"].to_pylist()) == {""}


def test_ids_of_a_manifest_keep_the_folder_of_its_first_members_line(archive):
    path, other = archive / "m.txt", archive / "lists" / "m.txt"
    path.write_text("in/a/x.PNG\nin/a/y.jpeg\n")
    other.parent.mkdir()
    other.write_text("../in/a/x.PNG\n../in/a/y.jpeg\n")
    table, roots = list_inputs(job(path), {})
    assert table["source_id"].to_pylist() == ["in/a/x.PNG", "in/a/y.jpeg"]
    assert ids(other) == ["x.PNG", "y.jpeg"]
    path.write_text("in/a/x.PNG\nin/b/x.tif\nother/q.webp\n")
    for recorded in (roots, {}):
        assert ids(path, recorded=recorded) == ["in/a/x.PNG", "in/b/x.tif", "other/q.webp"]
    older = {str(path): InputRoot(pattern=str(path), name="", prefix=str(archive / "in" / "a"))}
    assert "x.PNG" in ids(path, recorded=older)


def test_a_folder_s_photographs_are_of_every_kind_that_is_decoded(tmp_path):
    names = [f"a.{ending}" for ending in ("JPG", "bmp", "gif", "jpeg", "png", "tif", "tiff", "webp")]
    names = sorted([*names, "a.heic", "a.AVIF", "a.mpo", "a.pgm", "a.ppm", "a.jp2"])
    touch(tmp_path, *names, "a.csv")
    assert ids(tmp_path) == names


def test_two_files_that_would_have_one_id_have_a_problem(archive, bucket):
    for key in ("in/a.jpg", "in//a.jpg", "in/b.jpg"):
        fsspec.filesystem("s3").call_s3("put_object", Bucket=bucket[5:], Key=key, Body=b"x")
    problems = dict(
        zip(*(listed(f"{bucket}/in")[n].to_pylist() for n in ("source_id", "problem")), strict=True)
    )
    assert re.search(r"in//?a\.jpg and .*in//?a\.jpg would both be called a\.jpg", problems["a.jpg"])
    assert problems["b.jpg"] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_cannot_be_used_are_problems(archive):
    touch(
        archive / "in",
        os.fsdecode(b"caf\xe9.jpg"),
        "n" * 240 + ".jpg",
        "é" * 120 + ".jpg",
        "n" * 200 + ".jpg",
    )
    rows = {row["source_id"]: row["problem"] for row in listed(archive / "in").to_pylist()}
    assert "not UTF-8" in rows["caf\\xe9.jpg"]
    assert {key for key, problem in rows.items() if "longer" in problem} == {
        "n" * 240 + ".jpg",
        "é" * 120 + ".jpg",
    }
    assert len(rows) == 16


def test_the_output_is_no_input(archive):
    everything = ids(archive)
    touch(archive / "in" / "results", "masks/z.jpg.png")
    assert "in/results/masks/z.jpg.png" not in ids(archive, output=str(archive / "in" / "results"))
    assert ids(archive, output=str(archive / "in" / "results")) == everything
    (archive / "m.txt").write_text("in/results/masks/z.jpg.png\nin/z.jpg\n")
    assert len(ids(archive / "m.txt", output=str(archive / "in" / "results"))) == 1
    with pytest.raises(ConfigError, match="inside the output"):
        listed(archive / "in", output=str(archive))


def test_an_input_that_matches_nothing_is_refused_unless_allowed(archive):
    for pattern in ("in/b/*.jpg", "absent"):
        with pytest.raises(ConfigError, match="matches no photograph"):
            listed(archive / pattern)
        assert ids(archive / pattern, archive / "in" / "a", allow_empty=True) == ["a/x.PNG", "a/y.jpeg"]


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ([], "the list is empty"),
        ([(None, SceneSet(kind="stac", path="items.json", columns=("red",)))], "photographs"),
        ([(None, "/absent/m.csv")], "cannot list"),
        ([(None, "http://host/*.jpg")], "no listings"),
        ([("a", "/x"), ("b", "/x")], "twice"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs, word):
    with pytest.raises(ConfigError, match=word):
        list_inputs(make_config(inputs=tuple(inputs), photographs=make_photographs()), {})


def test_a_photograph_is_young_until_its_age(tmp_path):
    now = time.time()
    touch(tmp_path, "new.jpg", "old.jpg", "future.jpg")
    for name, modified in (("new", now), ("old", now - 100), ("future", now + 10_000)):
        os.utime(tmp_path / f"{name}.jpg", (modified, modified))
    (tmp_path / "m.txt").write_text("new.jpg\nold.jpg\nfuture.jpg\ngone.jpg\n")
    for inputs in (tmp_path, tmp_path / "m.txt"):
        table = listed(inputs, min_age=60.0)
        assert table.filter(table["young"])["source_id"].to_pylist() == ["new.jpg"]
        assert not any(listed(inputs)["young"].to_pylist())


def test_a_source_takes_its_texts_and_45_bytes(tmp_path):
    """The listing's own memory, and what stays of Python's after it."""
    count = 12_000
    touch(tmp_path / "in", "a/0.jpg", "b/0.jpg")
    for number in range(1, count // 2):
        for folder in "ab":
            os.link(tmp_path / "in" / folder / "0.jpg", tmp_path / "in" / folder / f"{number}.jpg")
    table = pa.table(
        {"uri": [f"in/{f}/{n}.jpg" for f in "ba" for n in range(count // 2)], "line": ["x"] * count}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    try:
        for inputs in (tmp_path / "in", tmp_path / "m.parquet"):
            before = pa.total_allocated_bytes()
            tracemalloc.start()
            photographs = listing_of(inputs)
            kept, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            texts = sum(
                len(text)
                for name in ("source_id", "uri", "tag", "attributes")
                for text in photographs[name].to_pylist()
            )
            assert pa.total_allocated_bytes() - before < texts + 45 * count
            assert photographs.nbytes < texts + 45 * count
            assert kept < 20 * count
            assert peak < 20 * 2**20
    finally:
        shutil.rmtree(tmp_path / "in")


def listing_of(inputs: Path) -> pa.Table:
    return list_inputs(job(inputs), {})[0]


def test_a_manifest_of_nothing_but_paths_that_no_file_can_have_is_listed(tmp_path):
    (tmp_path / "m.txt").write_text("a" * 60_000 + "\n" + "b/" * 3_000 + "c.jpg\n")
    found = listed(tmp_path / "m.txt")
    assert found.num_rows == 2
    assert all(found["problem"].to_pylist())
