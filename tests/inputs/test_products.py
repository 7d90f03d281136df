import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from conftest import SHARED
from factories import find_sources, make_config
from product_trees import L1C, L2A, OLI, TM, landsat, packed, sentinel2

from batchseg.errors import ConfigError
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.scene_rows import current_tag
from batchseg.inputs.source import Source, SourceMask
from batchseg.job.masks import mask_flags
from batchseg.job.settings import SceneSet

NUMBERS = dict.fromkeys(f"SR_B{n}" for n in range(1, 8))
BANDS = {**dict.fromkeys(f"{b}_10m" for b in ("B02", "B03", "B04", "B08")), "B11_20m": None, "B04_20m": None}


def products(kind: str, path: Path | str, *assets: str, **changes) -> dict[str, Source]:
    given = SceneSet(kind=kind, path=str(path), columns=assets)
    sources, _ = find_sources(make_config(inputs=((None, given),), **changes), {})
    return {source.source_id: source for source in sources}


def names(source: Source) -> list[str]:
    return [uri.rpartition("/")[2] for uri in source.rasters]


def make_config_of(given: SceneSet):
    return make_config(inputs=((None, given),))


def test_landsats_numbers_are_those_of_each_satellite(tmp_path):
    landsat(tmp_path / "2011" / TM, TM, NUMBERS)
    landsat(tmp_path / "2018" / OLI, OLI, NUMBERS)
    found = products("landsat", tmp_path, "blue", "nir08", "swir22")
    assert {name: names(source) for name, source in found.items()} == {
        TM: [f"{TM}_SR_B1.TIF", f"{TM}_SR_B4.TIF", f"{TM}_SR_B7.TIF"],
        OLI: [f"{OLI}_SR_B2.TIF", f"{OLI}_SR_B5.TIF", f"{OLI}_SR_B7.TIF"],
    }
    for name, source in found.items():
        assert source.problem == ""
        assert source.metadata == (str(tmp_path / source.uri.split("/")[-3] / name / f"{name}_MTL.xml"),) * 3
        assert current_tag(source) == source.tag
    found = products("landsat", tmp_path, "coastal")
    assert found[OLI].problem == ""
    assert found[TM].problem == (
        "has no coastal, its satellite or its level gives none; it has blue, green, red, nir08, swir16, "
        "lwir, swir22"
    )


def test_products_may_lie_flat_side_by_side_and_both_levels_have_ids_of_their_own(tmp_path):
    level_1 = OLI.replace("L2SP", "L1TP")
    landsat(tmp_path, OLI, NUMBERS)
    landsat(tmp_path, level_1, {"B4": None, "B5": None, "B8": None})
    landsat(tmp_path, TM, NUMBERS)
    (tmp_path / f"{OLI}_SR_B4.TIF.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / f"{OLI}_thumb_small.jpeg").write_bytes(b"x")
    (tmp_path / f"other_{OLI}_SR_B4.TIF").write_bytes(b"x")
    found = products("landsat", tmp_path, "red", "nir08")
    assert sorted(found) == sorted((OLI, TM, level_1))
    assert names(found[level_1]) == [f"{level_1}_B4.TIF", f"{level_1}_B5.TIF"]
    assert [source.problem for source in found.values()] == [""] * 3
    assert f"{tmp_path}/{OLI}_SR_B4.TIF.aux.xml" in found[OLI].files


def test_a_product_that_lacks_a_file_says_which_and_changes_when_it_comes(tmp_path):
    folder = landsat(tmp_path / OLI, OLI, {"SR_B4": None})
    before = products("landsat", tmp_path, "red", "nir08")[OLI]
    assert before.problem == f"its file for nir08 is missing: there is no {OLI}_SR_B5.TIF in {folder}"
    (folder / f"{OLI}_SR_B5.TIF").write_bytes(b"")
    assert products("landsat", tmp_path, "red", "nir08")[OLI].problem == f"the file {OLI}_SR_B5.TIF is empty"
    (folder / f"{OLI}_SR_B5.TIF").write_bytes(b"pixels")
    after = products("landsat", tmp_path, "red", "nir08")[OLI]
    assert (after.problem, after.tag == before.tag) == ("", False)
    (folder / f"{OLI}_SR_B5.tif").write_bytes(b"pixels")
    assert "has several files for nir08" in products("landsat", tmp_path, "red", "nir08")[OLI].problem


@pytest.mark.parametrize("kind", ["landsat", "sentinel2"])
@pytest.mark.parametrize("archive", ["", "x.zip", "x.tar"])
def test_the_same_product_twice_is_one_source_with_a_problem(tmp_path, kind, archive):
    for copy in ("a", "b"):
        folder = tmp_path / "in" / copy
        if kind == "landsat":
            landsat(folder / OLI, OLI, NUMBERS)
        else:
            sentinel2(folder / f"{L2A}.SAFE", BANDS)
    if archive:
        packed(tmp_path / "in" / "b", tmp_path / "in" / archive)
        shutil.rmtree(tmp_path / "in" / "b")
    (source,) = products(kind, tmp_path / "in", "red").values()
    assert "would both be called" in source.problem
    assert source.problem.endswith("they are one product: remove one of the two")
    shutil.rmtree(tmp_path / "in" / "a")
    (left,) = products(kind, tmp_path / "in", "red").values()
    assert (left.problem, left.tag == source.tag) == ("", False)


def test_folders_of_one_name_that_no_agency_gave_may_hold_two_products(tmp_path):
    for copy in ("a", "b"):
        sentinel2(tmp_path / copy / "my folder", BANDS)
    (source,) = products("sentinel2", tmp_path, "red").values()
    assert source.problem.endswith("give every scene a name of its own")


@pytest.mark.parametrize("name", [f"{L2A}.SAFE", L2A, "my folder"])
def test_sentinel_2s_best_resolution_is_taken_whatever_the_folder_is_called(tmp_path, name):
    root = sentinel2(tmp_path / "in" / name, BANDS, metadata="MTD_MSIL2a.xml")
    found = products("sentinel2", tmp_path / "in", "red", "nir", "swir16")
    assert list(found) == [name.removesuffix(".SAFE")]
    (source,) = found.values()
    assert source.problem == ""
    assert [file.split("T100000_")[-1] for file in source.rasters] == [
        "B04_10m.jp2",
        "B08_10m.jp2",
        "B11_20m.jp2",
    ]
    assert source.metadata == (str(root / "MTD_MSIL2a.xml"),) * 3
    assert current_tag(source) == source.tag


def test_level_1c_has_cirrus_and_level_2a_says_that_it_has_none(tmp_path):
    sentinel2(tmp_path / f"{L1C}.SAFE", {"B04": None, "B10": None})
    sentinel2(tmp_path / f"{L2A}.SAFE", BANDS)
    found = products("sentinel2", tmp_path, "red", "cirrus")
    assert found[L1C].problem == "" and found[L1C].rasters[1].endswith("_B10.jp2")
    assert found[L2A].problem == "has no cirrus: Level 2A holds no B10"


def test_two_granules_are_not_one_scene(tmp_path):
    root = sentinel2(tmp_path / f"{L2A}.SAFE", BANDS)
    (granule,) = (root / "GRANULE").iterdir()
    shutil.copytree(granule, granule.with_name("L2A_T33UUV"))
    assert "has several files for red" in products("sentinel2", tmp_path, "red")[L2A].problem


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", [OLI, TM]),
        ("2018", [OLI]),
        ("201?/LC*", [OLI]),
        ("**/LT05*", [TM]),
        ("2011/*/*_SR_B3.TIF", [TM]),
    ],
)
def test_a_glob_names_folders_or_files(tmp_path, pattern, found):
    for year, name in (("2011", TM), ("2018", OLI)):
        landsat(tmp_path / year / name, name, NUMBERS)
    landsat(tmp_path / "2018" / ".hidden", OLI, NUMBERS)
    (tmp_path / "2018" / f"{TM}_MTL.json").mkdir()
    pattern = pattern if pattern != "2018" else "2018/"
    red = {
        name: source.problem for name, source in products("landsat", f"{tmp_path}/{pattern}", "red").items()
    }
    assert red == dict.fromkeys(found, "")


@pytest.mark.parametrize(("kind", "word"), [("landsat", "_SR_B4.TIF"), ("sentinel2", "MTD_MSIL2A.xml")])
def test_a_folder_without_products_says_what_was_looked_for(tmp_path, kind, word):
    (tmp_path / "a.tif").write_bytes(b"pixels")
    with pytest.raises(ConfigError, match=rf"matches no raster \(a product of \w+-?2?: .*{word}"):
        products(kind, tmp_path, "red")
    with pytest.raises(ConfigError, match="a web server shows no folders"):
        products(kind, "https://example.org/archive", "red")


@pytest.mark.parametrize("pattern", ["**/*_L2SP_*", "**", "*/", "*", "**/LC08*", "**/*.tar"])
def test_a_glob_names_archives_and_levels_too(tmp_path, pattern):
    level_1 = OLI.replace("L2SP", "L1TP")
    landsat(tmp_path / "in" / "a" / OLI, OLI, NUMBERS)
    landsat(tmp_path / "in" / "a", level_1, {"B4": None})
    packed(landsat(tmp_path / "made", TM, NUMBERS), tmp_path / "in" / "b" / f"{TM}.tar")
    found = products("landsat", f"{tmp_path}/in/{pattern}", "red")
    expected = {OLI, level_1, TM}
    expected -= {"**/*_L2SP_*": {level_1}, "**/LC08*": {TM}, "**/*.tar": {OLI, level_1}}.get(pattern, set())
    assert {name: source.problem for name, source in found.items()} == dict.fromkeys(expected, "")


def test_results_hidden_folders_and_links_are_left_out(tmp_path):
    for folder in (OLI, ".trash", "old/masks"):
        landsat(tmp_path / "in" / folder, OLI if folder == OLI else TM, NUMBERS)
    (tmp_path / "in" / "old" / "_batchseg").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / OLI)
    assert list(products("landsat", tmp_path / "in", "red")) == [OLI]
    assert list(products("landsat", tmp_path / "in", "red", output=str(tmp_path / "in" / "out"))) == [OLI]


def test_of_a_closed_folder_no_product_lacks_a_file(tmp_path, monkeypatch):
    landsat(tmp_path / OLI, OLI, {"SR_B4": None})
    landsat(tmp_path / TM, TM, NUMBERS)
    monkeypatch.setattr(
        "batchseg.inputs.products.walk",
        lambda pattern, selection, without: (
            selection.is_closed("/shut") or real(pattern, selection=selection)
        ),
    )
    left_out = LeftOut()
    given = SceneSet(kind="landsat", path=str(tmp_path), columns=("red", "nir08"))
    sources, _ = find_sources(make_config_of(given), {}, left_out)
    assert [source.source_id for source in sources] == [TM]
    assert "1 scene is left out" in " ".join(left_out.lines())


def real(*arguments, **options):
    from batchseg.system.walk import walk

    return walk(*arguments, **options)


def test_products_in_buckets_are_listed_too():
    fs = fsspec.filesystem("memory")
    try:
        for part in ("SR_B4.TIF", "SR_B5.TIF", "MTL.json"):
            fs.pipe_file(f"/bucket/archive/{OLI}/{OLI}_{part}", b"pixels")
        source = products("landsat", "memory://bucket/archive", "red", "nir08")[OLI]
        assert source.problem == ""
        assert source.uri == f"memory:///bucket/archive/{OLI}/{OLI}_SR_B4.TIF"
        assert source.metadata == (f"memory:///bucket/archive/{OLI}/{OLI}_MTL.json",) * 2
    finally:
        fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize("name", ["a b", "ö#%{}", "x!", "[x]", OLI, "\udcff"])
def test_odd_names_of_folders_are_only_names(tmp_path, name):
    landsat(tmp_path / "in" / name / OLI, OLI, NUMBERS)
    assert list(products("landsat", tmp_path / "in", "red")) == [OLI]
    assert list(products("landsat", tmp_path / "in" / name, "red")) == [OLI]


@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_archives_are_products_and_another_version_is_seen(tmp_path, ending):
    made = landsat(tmp_path / "made", OLI, NUMBERS)
    archive = packed(made, tmp_path / "in" / f"{OLI}.{ending}")
    source = products("landsat", tmp_path / "in", "red", "nir08")[OLI]
    assert source.problem == ""
    assert source.uri == f"{archive}!/{OLI}_SR_B4.TIF"
    assert source.metadata == (f"{archive}!/{OLI}_MTL.xml",) * 2
    assert source.size == 2 * len(b"pixels")
    assert current_tag(source) == source.tag
    packed(landsat(tmp_path / "made", TM, NUMBERS), archive)
    assert current_tag(source) != source.tag
    found = products("landsat", archive, "red")
    assert sorted(found) == sorted((OLI, TM))
    archive.write_bytes(b"PK or ustar")
    (source,) = products("landsat", tmp_path / "in", "red").values()
    assert (source.source_id, source.files) == (OLI, (str(archive),))
    assert "is a damaged archive, or none" in source.problem
    packed(tmp_path / "in", archive.with_name(f"{TM}.{ending}"))
    assert products("landsat", tmp_path / "in", "red")[TM].problem == "holds no file of a product"


def listed(kind: str, path: Path, *assets: str) -> tuple[list[str], tuple[str, ...]]:
    """Ids of the sources without a problem, and what the listing left out, in lines."""
    left_out = LeftOut()
    given = SceneSet(kind=kind, path=str(path), columns=assets)
    sources, _ = find_sources(make_config_of(given), {}, left_out)
    return [source.source_id for source in sources if not source.problem], left_out.lines()


@pytest.mark.parametrize("name", ["download.zip", "sub/x.tar", f"{OLI} (1).tar", f"{TM}.zip"])
def test_an_archives_members_say_which_product_it_holds_whatever_it_is_called(tmp_path, name):
    landsat(tmp_path / "made" / "l", OLI, NUMBERS)
    archive = packed(tmp_path / "made" / "l", tmp_path / "l" / name)
    for place in (tmp_path / "l", archive):
        assert listed("landsat", place, "red") == ([OLI], ())
    sentinel2(tmp_path / "made" / "s" / f"{L2A}.SAFE", BANDS)
    archive = packed(tmp_path / "made" / "s", tmp_path / "s" / name)
    for place in (tmp_path / "s", archive):
        assert listed("sentinel2", place, "red") == ([L2A], ())


def test_what_is_of_no_product_is_said(tmp_path):
    """Files that the agencies put into a product are none of that."""
    root = sentinel2(tmp_path / "in" / "my folder", BANDS)
    (root / "manifest.safe").write_text("x")
    (root / "GRANULE" / "more.html").write_text("x")
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "T33UUU_20260101T100000_B04_10m.jp2").write_bytes(b"of no granule")
    packed(root, tmp_path / "in" / "outer" / "a.zip")
    packed(tmp_path / "in" / "outer", tmp_path / "in" / "outer.zip")
    (tmp_path / "in" / "outer" / "a.zip").unlink()
    packed(tmp_path / "in" / "outer", tmp_path / "in" / f"{L2A}.zip")  # it is quarantined
    (tmp_path / "in" / "cut.zip").write_bytes(b"PK")
    (tmp_path / "in" / "b.tgz").write_bytes(b"\x1f\x8b")
    found, (line,) = listed("sentinel2", tmp_path / "in", "red")
    assert found == ["my folder"]
    assert line.startswith(
        "left out: 2 files of other kinds: .jp2 1, .txt 1; 1 archive without a product: outer.zip; "
        "2 archives that cannot be read: b.tgz is compressed as a whole: unpack it, or make a .tar of it "
        "with gunzip, cut.zip is a damaged archive, or none ("
    )
    landsat(tmp_path / "l" / OLI, OLI, NUMBERS)
    for part in ("QA_RADSAT.TIF", "ANG.txt", "thumb_small.jpeg", "SR_stac.json"):
        (tmp_path / "l" / OLI / f"{OLI}_{part}").write_bytes(b"x")
    (tmp_path / "l" / OLI / f"other_{OLI}_SR_B4.TIF").write_bytes(b"x")
    assert listed("landsat", tmp_path / "l", "red") == ([OLI], ("left out: 1 file of other kinds: .tif 1",))
    assert listed("landsat", f"{tmp_path}/l/*", "red")[0] == [OLI]


def test_what_another_input_takes_is_not_left_out(tmp_path):
    sentinel2(tmp_path / "in" / f"{L2A}.SAFE", BANDS)
    landsat(tmp_path / "in", OLI, NUMBERS)
    packed(landsat(tmp_path / "made", TM, NUMBERS), tmp_path / "in" / "a" / "download.zip")
    (tmp_path / "in" / "a" / "notes.txt").write_text("x")
    sets = [
        SceneSet(kind=kind, path=str(tmp_path / "in"), columns=("red",)) for kind in ("landsat", "sentinel2")
    ]
    for some in (sets, sets[::-1]):
        left_out = LeftOut()
        sources, _ = find_sources(make_config(inputs=tuple((None, one) for one in some)), {}, left_out)
        assert len(sources) == 3
        assert left_out.lines() == ("left out: 1 file of other kinds: .txt 1",)
    (line,) = listed("landsat", tmp_path / "in", "red")[1]
    assert line == "left out: 9 files of other kinds: .jp2 7, .txt 1, .xml 1"


def test_archives_in_buckets_and_compressed_as_a_whole_say_what_to_do(tmp_path):
    (tmp_path / f"{OLI}.tgz").write_bytes(b"\x1f\x8b")
    assert products("landsat", tmp_path, "red")[OLI].problem.startswith("is compressed as a whole: unpack")
    fs = fsspec.filesystem("memory")
    try:
        fs.pipe_file(f"/bucket/archive/{OLI}.tar", b"pixels")
        found = products("landsat", "memory://bucket/archive", "red")[OLI]
        assert found.problem == "is an archive in a bucket: those on local disks alone are read; unpack it"
    finally:
        fs.rm("/bucket", recursive=True)


def masked(kind: str, path: Path, *assets: str, flags: tuple[str, ...] = ("clouds",)) -> dict[str, Source]:
    mask = mask_flags(kind, list(flags))
    given = SceneSet(kind=kind, path=str(path), columns=assets, mask=mask)
    sources, _ = find_sources(make_config(inputs=((None, given),)), {})
    return {source.source_id: source for source in sources}


def test_a_mask_is_the_products_own_file_and_a_part_of_its_version(tmp_path):
    folder = landsat(tmp_path / "l" / OLI, OLI, NUMBERS)
    assert masked("landsat", tmp_path / "l", "red")[OLI].problem == (
        f"its file for the mask is missing: there is no QA_PIXEL in {folder}"
    )
    (folder / f"{OLI}_QA_PIXEL.TIF").write_bytes(b"flags")
    source = masked("landsat", tmp_path / "l", "red")[OLI]
    assert source.mask == SourceMask(uri=f"{folder}/{OLI}_QA_PIXEL.TIF", by="bits", numbers=(3,))
    assert (source.problem, len(source.rasters), current_tag(source)) == ("", 1, source.tag)
    assert source.opened == (*source.rasters, source.mask.uri)
    bare = products("landsat", tmp_path / "l", "red")[OLI]
    other = masked("landsat", tmp_path / "l", "red", flags=("shadows",))[OLI]
    assert len({bare.tag, source.tag, other.tag}) == 3
    (folder / f"{OLI}_QA_PIXEL.TIF").write_bytes(b"other flags")
    assert current_tag(source) != source.tag
    (folder / f"{OLI}_QA_PIXEL.TIF").write_bytes(b"")
    assert masked("landsat", tmp_path / "l", "red")[OLI].problem == f"the file {OLI}_QA_PIXEL.TIF is empty"


def test_of_scene_classes_the_finest_count(tmp_path):
    sentinel2(tmp_path / f"{L2A}.SAFE", BANDS | {"SCL_20m": None, "SCL_60m": None})
    found = masked("sentinel2", tmp_path, "red", flags=("clouds", "cirrus"))
    assert found[L2A].problem == ""
    assert found[L2A].mask is not None and found[L2A].mask.uri.endswith("_SCL_20m.jp2")
    assert (found[L2A].mask.by, found[L2A].mask.numbers) == ("values", (8, 9, 10))


CLASSIFIED = {"B04": None, "MSK_CLASSI_B00": np.zeros((3, 4, 4), np.uint8)}


def test_level_1c_marks_by_the_bands_of_a_file_of_its_own(tmp_path):
    sentinel2(tmp_path / f"{L1C}.SAFE", CLASSIFIED)
    for flags, bands in ((("clouds",), (1,)), (("snow", "cirrus"), (2, 3))):
        source = masked("sentinel2", tmp_path, "red", flags=flags)[L1C]
        assert source.problem == "" and current_tag(source) == source.tag
        assert source.mask is not None and source.mask.uri.endswith("/QI_DATA/MSK_CLASSI_B00.jp2")
        assert (source.mask.by, source.mask.numbers) == ("bands", bands)
    assert products("sentinel2", tmp_path, "red")[L1C].mask is None


def test_level_2a_goes_by_its_scene_classes_though_it_holds_that_file_too(tmp_path):
    sentinel2(tmp_path / f"{L2A}.SAFE", BANDS | {"SCL_20m": None} | CLASSIFIED)
    mask = masked("sentinel2", tmp_path, "red")[L2A].mask
    assert mask is not None and mask.uri.endswith("_SCL_20m.jp2")


def test_level_1c_without_such_a_file_is_refused_with_what_to_do(tmp_path):
    sentinel2(tmp_path / f"{L1C}.SAFE", {"B04": None})
    said = masked("sentinel2", tmp_path, "red")[L1C].problem
    assert said == f"its file for the mask is missing: there is no MSK_CLASSI_B00 in {tmp_path}/{L1C}.SAFE"
    (quality,) = tmp_path.rglob("QI_DATA")
    (quality / "MSK_CLOUDS_B00.gml").write_text("<eop:Mask/>")
    said = masked("sentinel2", tmp_path, "red")[L1C].problem
    assert said.startswith("marks clouds by outlines (MSK_CLOUDS_B00.gml), as Level 1C did before baseline")
    said = masked("sentinel2", tmp_path, "red", flags=("clouds", "shadows"))[L1C].problem
    assert said.startswith(
        "is of Level 1C, which marks clouds, cirrus, snow alone, and `mask` asks for shadows"
    )
    assert products("sentinel2", tmp_path, "red")[L1C].problem == ""


@pytest.mark.skipif(not SHARED.is_dir(), reason="no metadata: set BATCHSEG_DATA")
def test_real_products_of_level_1c_before_the_rasters_say_so(tmp_path):
    """By the metadata of two, of baselines 02.09 and 03.01."""
    for metadata in (SHARED / "sentinel2-metadata").glob("*MSIL1C*/MTD_MSIL1C.xml"):
        root = tmp_path / metadata.parent.name
        sentinel2(root, {"B04": None})
        (root / "MTD_MSIL1C.xml").write_bytes(metadata.read_bytes())
        (quality,) = root.rglob("QI_DATA")
        (quality / "MSK_CLOUDS_B00.gml").write_text("<eop:Mask/>")
    found = masked("sentinel2", tmp_path, "red")
    assert len(found) == 2
    assert all(source.problem.startswith("marks clouds by outlines") for source in found.values())
