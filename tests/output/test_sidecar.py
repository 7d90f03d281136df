"""The file of class names beside a mask, and what GDAL and QGIS write into it."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import rasterio
from conftest import JobWriter, reflectance, write_raster
from outputs import check
from rasterio.errors import RasterioDeprecationWarning
from runs import mask_bytes, run

from batchseg.job.cleaning import VACANT
from batchseg.models.package import ClassInfo
from batchseg.output.sidecar import (
    MOST_BYTES,
    add_class_table,
    content_at,
    has_names,
    names_in,
    with_additions,
)
from batchseg.system.location import Location
from batchseg.tools.verify import Verification

NAMES = ["soil", "water", "vegetation", "bright"]
OURS = b"""<PAMDataset>
  <PAMRasterBand band="1">
    <Description>class</Description>
    <CategoryNames><Category>a</Category><Category>b</Category></CategoryNames>
  </PAMRasterBand>
</PAMDataset>
"""
THEIRS = b"""<PAMDataset>
  <SRS>LOCAL_CS["x"]</SRS>
  <Metadata><MDI key="owner">survey</MDI></Metadata>
  <Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/etc/x</MDI></Metadata>
  <PAMRasterBand band="1">
    <CategoryNames><Category>old</Category></CategoryNames>
    <Histograms><HistItem><HistCounts>7</HistCounts></HistItem></Histograms>
    <Metadata><MDI key="STATISTICS_MEAN">1</MDI><MDI key="checked">yes</MDI></Metadata>
  </PAMRasterBand>
</PAMDataset>
"""


@pytest.fixture
def mask(tmp_path: Path, write_job: JobWriter) -> Path:
    """Of a job's one scene."""
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    run(write_job())
    return tmp_path / "out" / "masks" / "a.tif"


def beside(mask: Path) -> Path:
    return mask.with_name(f"{mask.name}.aux.xml")


def add_statistics(mask: Path) -> None:
    """As `gdalinfo -stats` does, by the library that it is of."""
    with rasterio.open(mask) as dataset, pytest.warns(RasterioDeprecationWarning):
        dataset.statistics(1, approx=False, clear_cache=True)
    assert b"STATISTICS_MEAN" in beside(mask).read_bytes()


def found_in(data: bytes) -> dict[str, str]:
    root = ElementTree.fromstring(data)  # noqa: S314  of this test
    return {str(item.get("key")): item.text or "" for item in root.iter("MDI")}


def looked_at(mask: Path) -> Verification:
    quick, whole = (check(mask.parents[1], quick=how) for how in (True, False))
    assert quick.problems == whole.problems
    return whole


def test_statistics_are_no_alarm_and_no_work(mask: Path, write_job: JobWriter) -> None:
    add_statistics(mask)
    there = mask_bytes(mask.parents[1])
    found = looked_at(mask)
    assert found.problems == ()
    assert found.amended == ("masks/a.tif.aux.xml",)
    report = run(write_job())
    assert (report.tally.done, report.skipped) == (0, 1)
    assert mask_bytes(mask.parents[1]) == there


@pytest.mark.parametrize("damage", ["water", "<Category>water</Category>", "</PAMDataset>"])
def test_names_that_changed_are_an_alarm_and_are_mended(
    mask: Path, write_job: JobWriter, damage: str
) -> None:
    add_statistics(mask)
    text = beside(mask).read_text()
    assert damage in text
    beside(mask).write_text(text.replace(damage, "wasser" if damage == "water" else ""))
    assert [problem.partition(":")[0] for problem in looked_at(mask).problems] == ["masks/a.tif.aux.xml"]
    assert run(write_job()).tally.done == 1
    assert check(mask.parents[1]).problems == ()
    assert list(names_in(beside(mask).read_bytes()) or ()) == NAMES


def test_additions_stay_where_the_same_pixels_are_published_again(mask: Path, write_job: JobWriter) -> None:
    add_statistics(mask)
    before = found_in(beside(mask).read_bytes())
    names = [*NAMES[:3], "glare"]
    assert run(write_job(classes=names)).tally.done == 1
    data = beside(mask).read_bytes()
    assert (list(names_in(data) or ()), found_in(data)) == (names, before)
    assert data.count(b"<GDALRasterAttributeTable") == data.count(b"<CategoryNames>") == 1
    with rasterio.open(mask) as dataset:
        assert dataset.tags(1)["STATISTICS_MEAN"] == before["STATISTICS_MEAN"]
    found = check(mask.parents[1])
    assert (found.problems, found.amended) == ((), ())


def test_statistics_go_where_a_new_version_is_predicted(
    mask: Path, tmp_path: Path, write_job: JobWriter
) -> None:
    add_statistics(mask)
    write_raster(tmp_path / "in" / "a.tif", reflectance(50, 60, seed=3))
    assert run(write_job()).tally.done == 1
    assert list(names_in(beside(mask).read_bytes()) or ()) == NAMES
    assert found_in(beside(mask).read_bytes()) == {}
    assert check(mask.parents[1]).problems == ()


def test_what_is_kept_depends_on_the_pixels() -> None:
    kept = with_additions(OURS, THEIRS, same_pixels=True)
    assert names_in(kept) == ("a", "b")
    assert found_in(kept).keys() == {"owner", "OVERVIEW_FILE", "STATISTICS_MEAN", "checked"}
    assert b"<Histograms>" in kept
    assert b"LOCAL_CS" in kept
    kept = with_additions(OURS, THEIRS, same_pixels=False)
    assert names_in(kept) == ("a", "b")
    assert found_in(kept) == {"owner": "survey", "checked": "yes"}
    assert b"<Histograms>" not in kept
    assert b"LOCAL_CS" not in kept
    again = with_additions(OURS, kept, same_pixels=True)
    assert (names_in(again), found_in(again)) == (names_in(kept), found_in(kept))


@pytest.mark.parametrize(
    "there",
    [b"", b"<PAMDataset>", b"<a/>", b"\xff\xfe", OURS, b"<PAMDataset></PAMDataset>", b"<a>" * 10_000],
)
@pytest.mark.parametrize("same_pixels", [True, False])
def test_what_adds_nothing_changes_no_byte(there: bytes, same_pixels: bool) -> None:
    assert with_additions(OURS, there, same_pixels=same_pixels) == OURS


def test_what_is_nested_as_nobody_nests_is_left(tmp_path: Path) -> None:
    deep = b"<PAMDataset>" + b"<Metadata>" * 5000 + b"</Metadata>" * 5000 + b"</PAMDataset>"
    assert with_additions(OURS, deep, same_pixels=True) == OURS
    (tmp_path / "x.aux.xml").write_bytes(b" " * (MOST_BYTES + 1))
    assert content_at(Location.of(str(tmp_path)).below("x.aux.xml")) is None
    assert content_at(Location.of(str(tmp_path)).below("none.aux.xml")) is None


def test_the_classes_alone_are_a_table_for_qgis(mask: Path) -> None:
    (table,) = ElementTree.parse(beside(mask)).iter("GDALRasterAttributeTable")  # noqa: S314  of this test
    rows = [[cell.text for cell in row] for row in table.iter("Row")]
    assert [row[:2] for row in rows] == [[str(number), name] for number, name in enumerate(NAMES)]
    with rasterio.open(mask) as dataset:
        colors = dataset.colormap(1)
    assert [[int(cell or "") for cell in row[2:]] for row in rows] == [
        list(colors[number][:3]) for number in range(4)
    ]
    usages = [field.findtext("Usage") for field in table.iter("FieldDefn")]
    assert usages == ["5", "2", "6", "7", "8"], "value, name, red, green, blue"


def test_names_with_white_space_around_them_are_known_again(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    names = [" soil", "water  body ", "<&>", "\u00fc\u68c0"]
    assert run(write_job(classes=names)).tally.done == 1
    made = tmp_path / "out" / "masks" / "a.tif"
    add_statistics(made)
    assert has_names(beside(made).read_bytes(), names)
    assert looked_at(made).problems == ()
    assert run(write_job(classes=names)).skipped == 1


def test_a_class_that_was_merged_into_another_has_no_row() -> None:
    band = ElementTree.Element("PAMRasterBand")
    built, land = ClassInfo(name="built", color="#010203"), ClassInfo(name="land", color="#040506")
    add_class_table(band, [built, VACANT, land])
    rows = [[cell.text for cell in row] for row in band.iter("Row")]
    assert rows == [["0", "built", "1", "2", "3"], ["2", "land", "4", "5", "6"]]
    assert [row.get("index") for row in band.iter("Row")] == ["0", "1"]
