import ast
import re
from pathlib import Path

import pytest
import structure

import batchseg
from batchseg.errors import OutputError
from batchseg.output import layout
from batchseg.system.location import Location

RESULTS = "masks|confidence|predicted|annotations|items"
FOLDERS = f"_batchseg|{RESULTS}|ledger|locks|runs|fragments|networks|scratch"
IN_A_PATH = re.compile(rf"(^|/)({FOLDERS})/|/({FOLDERS})$|output\.json|items\.parquet|summary\.json")
ALONE = re.compile("_batchseg|annotations|ledger|locks|runs|fragments|scratch")
"""Folders that are no words of a job file or of a table besides."""
ASKING = ("join", "is_below", "first_output")
"""Functions that are given folders by name."""


def _spelled(tree: ast.Module) -> list[str]:
    """Texts of a module, but for its docstrings, that name a folder of an output."""
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    given = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ASKING
        for argument in node.args
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
        if IN_A_PATH.search(node.value)
        or ALONE.fullmatch(node.value)
        or (id(node) in given and re.fullmatch(FOLDERS, node.value))
    ]


def test_no_other_module_spells_a_folder():
    modules = structure.read_package(Path(batchseg.__file__).parent).modules
    found = {name: spelled for name, module in modules.items() if (spelled := _spelled(module.tree))}
    # inputs/left_out knows the folder of records, by which it tells results of other jobs.
    assert list(found) == ["inputs.left_out", "output.layout"]
    assert len(found["inputs.left_out"]) == 1


def test_results_lie_where_earlier_versions_put_them():
    assert layout.layer_path("l 1/ä#.jpg", "mask", "png", names="added") == "masks/l 1/ä#.jpg.png"
    assert layout.layer_path("a.tif", "confidence", names="added") == "confidence/a.tif.tif"
    assert layout.layer_path("a.tif", "confidence", names="kept") == "confidence/a.tif"
    assert layout.layer_path("a.tif", "predicted", names="kept") == "predicted/a.tif"
    assert layout.scene_regions_path("EPSG-32633", "ab") == "annotations/crs=EPSG-32633/scene-ab.parquet"
    assert layout.shared_regions_path("none", "ab") == "annotations/crs=none/part-ab.parquet"
    assert layout.ITEMS_TABLE == "items/items.parquet"


def test_batchsegs_own_files_lie_where_earlier_versions_put_them():
    own = layout.own_folder("s3://bucket/out/")
    assert own.uri == "s3://bucket/out/_batchseg"
    folder = layout.fragments_folder("/out")
    places = {
        layout.state_file("/out"): "output.json",
        layout.ledger_file("/out", "segment", 42): "ledger/segment-00000042.parquet",
        layout.epoch_file("/out", 7): "locks/epoch-00000007.json",
        layout.run_file("/out", "1-a", layout.LOG): "runs/1-a/log.txt",
        layout.run_file("/out", "1-a", layout.SUMMARY): "runs/1-a/summary.json",
        layout.fragment_file(folder, "mask", 0, 64): "fragments/mask-00000000-00000064.tif",
        Location.of("/out").below(layout.network_path("ab")): "networks/ab.zip",
        layout.scratch_folder("/out"): "scratch",
    }
    for place, path in places.items():
        assert (place.uri, place.path) == (f"/out/_batchseg/{path}", Path("/out/_batchseg") / path)
        assert place.root == Path("/out")


@pytest.mark.parametrize(
    "path",
    [
        "../masks/a.tif",
        "masks/../../a.tif",
        "masks/./a.tif",
        "masks//a.tif",
        "/masks/a.tif",
        "masks",
        "masks/",
        "items/items.parquet",
        "_batchseg/output.json",
        "masks/a\n.tif",
        "masks/a\x9b.tif",
        "masks/" + "a/" * 2048 + "a.tif",
        "",
    ],
)
def test_what_is_no_result_has_no_place(path):
    for output in ("/out", "s3://bucket/out"):
        with pytest.raises(OutputError, match="is no result"):
            layout.result_file(output, path)


def test_rasters_of_scenes_are_told_from_what_is_derived_from_them():
    derived = ["masks/a.tif.aux.xml", "masks/a.jpg.png", layout.scene_regions_path("none", "a")]
    assert [layout.is_layer(path) for path in derived] == [False] * 3
    assert layout.is_layer("masks/a.tif") and layout.is_layer("confidence/b/a.tif")


def test_region_tables_are_known_by_their_paths():
    scene, part = layout.scene_regions_path("EPSG-4326", "a"), layout.shared_regions_path("none", "a")
    assert [layout.is_region_table(path) for path in (scene, part, "masks/annotations/x.parquet")] == [
        1,
        1,
        0,
    ]
    assert [layout.is_shared(path) for path in (scene, part)] == [False, True]
    assert [layout.crs_of(path) for path in (scene, part)] == ["EPSG-4326", "none"]


@pytest.mark.parametrize("number", [1, 12345678])
def test_numbers_are_read_from_the_names_that_they_make(number):
    assert layout.epoch_number(layout.epoch_file("/out", number).uri) == number
    assert layout.ledger_number(layout.ledger_file("/out", "snapshot", number).uri, "snapshot") == number
    assert layout.ledger_number(layout.ledger_file("/out", "snapshot", number).uri, "segment") is None


@pytest.mark.parametrize("name", ["epoch-1.json", ".tmp-00000001", "epoch-00000001.json.x", "clock-12345678"])
def test_files_in_the_making_have_no_number(name):
    assert layout.epoch_number(f"/out/_batchseg/locks/{name}") is None
