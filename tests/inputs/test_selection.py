"""What of an input's folders is no input, on disks and in buckets, for scenes and photographs."""

from pathlib import Path

import fsspec
import pytest
from archives import find, ids, touch
from factories import find_sources, make_config
from listings import job, listed

from batchseg.errors import ConfigError
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.listing import list_inputs
from batchseg.job.settings import SceneSet

KEPT = ["2024/a.tif", "2024/b.tif", "z.tif"]
HIDDEN = [
    ".Trash-1000/files/a.tif",
    ".snapshot/hourly.0/2024/a.tif",
    "2024/@eaDir/a.tif/SYNOPHOTO_THUMB_XL.tif",
    "#recycle/a.tif",
    "$RECYCLE.BIN/S-1-5/a.tif",
    "System Volume Information/a.tif",
    "lost+found/a.tif",
    "__MACOSX/2024/a.tif",
    "2024/.cache/a.tif",
]
RESULTS = [
    "2024/results/masks/2024/a.tif",
    "2024/results/A.tif",
    "2024/results/sheets/x.tif",
    "2024/results/_batchseg/output.json",
    "2024/results/_batchseg/fragments/x/y.tif",
    "results/confidence/a.tif",
    "results/_batchseg/output.json",
]
OTHER = ["2024/p.heic", "2024/q.HEIC", "notes.txt", "README", ".hidden.tif", "2024/a.tif.aux.xml"]


@pytest.fixture(params=["disk", "bucket"])
def archive(request, tmp_path: Path) -> str:
    names = [*KEPT, *HIDDEN, *RESULTS, *OTHER]
    if request.param == "disk":
        touch(*(tmp_path / "in" / name for name in names))
        return f"{tmp_path}/in"
    bucket = request.getfixturevalue("bucket")
    fs = fsspec.filesystem("s3")
    for name in names:
        fs.pipe_file(f"{bucket}/in/{name}", b"pixels")
    return f"{bucket}/in"


def both(pattern: str, output: str = "/elsewhere") -> tuple[list[str], list[LeftOut]]:
    """Ids of TIFFs, the same for scenes as for photographs, and what is said to be left out of either."""
    said = [LeftOut(), LeftOut()]
    config = make_config(inputs=((None, pattern),), output=output)
    scenes = [source.source_id for source in find_sources(config, {}, said[0])[0]]
    scenes = [name for name in scenes if name.endswith(".tif")]
    photographs = list_inputs(job(pattern, output=output), {}, said[1])[0]["source_id"].to_pylist()
    assert [name for name in photographs if name.endswith(".tif")] == scenes
    return scenes, said


def test_a_folder_s_own_files_are_found_and_the_rest_is_told(archive):
    found, said = both(archive)
    assert found == KEPT
    for left_out in said:
        names = {folder.rpartition("/")[2] for folder in left_out.folders}
        assert names == {
            *(".Trash-1000", ".snapshot", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "__MACOSX"),
            *("System Volume Information", ".cache"),
        }
        assert left_out.results == {f"{archive}/results", f"{archive}/2024/results"}
        assert left_out.hidden == {".tif": 1}
        assert "1 hidden file: .tif 1" in left_out.lines()[0]
        assert left_out.kinds[".txt"] == left_out.kinds[""] == 1
    assert said[0].kinds[".heic"] == 2


def test_a_glob_enters_no_hidden_folder_and_no_results(archive):
    for pattern in ("**/*.tif", "**"):
        assert both(f"{archive}/{pattern}")[0] == KEPT
    assert both(f"{archive}/*/*.tif")[0] == KEPT[:2]
    with pytest.raises(ConfigError, match=r"matches no raster(.|\n)*results of other jobs: .*2024/results"):
        both(f"{archive}/2024/*/masks/*/*.tif")


def test_what_the_job_names_is_taken(archive):
    assert both(f"{archive}/.snapshot/hourly.0")[0] == ["2024/a.tif"]
    assert both(f"{archive}/.snap*/*/2024/*.tif")[0] == [".snapshot/hourly.0/2024/a.tif"]
    assert both(f"{archive}/2024/results/masks")[0] == ["2024/a.tif"]
    assert both(f"{archive}/2024/results/masks/**/*.tif")[0] == ["2024/a.tif"]


def test_a_folder_that_is_an_output_holds_no_inputs(archive):
    with pytest.raises(ConfigError, match=r"matches no (.|\n)*results of other jobs: .*/2024/results"):
        both(f"{archive}/2024/results")


def test_the_job_s_own_output_is_not_another_s(archive):
    said = both(archive, output=f"{archive}/results")[1]
    assert all(left_out.results == {f"{archive}/2024/results"} for left_out in said)


def test_bands_of_scenes_are_looked_for_in_the_same_folders(archive):
    given = SceneSet(kind="bands", patterns=(("a", f"{archive}/**/{{scene}}/a.tif"),))
    left_out = LeftOut()
    sources, _ = find_sources(make_config(inputs=((None, given),)), {}, left_out)
    assert [(source.source_id, source.problem) for source in sources] == [("2024", "")]
    assert left_out.folders


def test_a_manifest_names_whatever_it_likes(tmp_path):
    touch(tmp_path / "results" / "masks" / "a.tif", tmp_path / "results" / "_batchseg" / "output.json")
    (tmp_path / "m.txt").write_text("results/masks/a.tif\n")
    assert ids(tmp_path / "m.txt") == ["a.tif"]
    assert listed(tmp_path / "m.txt")["source_id"].to_pylist() == ["results/masks/a.tif"]


def test_other_stores_are_asked_for_no_hidden_folder():
    memory = fsspec.filesystem("memory")
    for name in ("x/a.tif", ".Trash/x/a.tif", "r/masks/a.tif", "r/_batchseg/output.json"):
        memory.pipe_file(f"/in/{name}", b"x")
    try:
        assert [source.uri for source in find("memory://in")[0]] == ["memory:///in/x/a.tif"]
        assert listed("memory://in")["uri"].to_pylist() == ["memory:///in/x/a.tif"]
    finally:
        memory.store.clear()


def test_linked_folders_are_told(tmp_path):
    touch(tmp_path / "elsewhere" / "a.tif", tmp_path / "in" / "b.tif")
    (tmp_path / "in" / "2023").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    found, said = both(f"{tmp_path}/in")
    assert found == ["b.tif"]
    assert all("1 linked folder: 2023" in left_out.lines()[0] for left_out in said)
