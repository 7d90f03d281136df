"""COCO files, read back by a rasteriser of other making."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio.features
import shapely
from factories import Photo, make_photo_output
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from batchseg.cli.main import main
from batchseg.errors import ConfigError, OutputError
from batchseg.tools.export_coco import export_coco, run_lengths

CLASSES = ("good", "hole", "crack", "fray")


def decoded(counts: list[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """COCO's uncompressed run-length masks: column by column, beginning with pixels outside."""
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(size[::-1]).T


def drawn(annotation: dict, size: tuple[int, int]) -> NDArray[np.bool_]:
    segmentation = annotation["segmentation"]
    if annotation["iscrowd"]:
        assert segmentation["size"] == list(size)
        return decoded(segmentation["counts"], size)
    (flat,) = segmentation
    polygon = shapely.Polygon(np.reshape(flat, (-1, 2)))
    return rasterio.features.rasterize([polygon], size) == 1


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1)))
def test_run_lengths_are_the_pixels_of_a_polygon(mask: NDArray[np.uint8]) -> None:
    if not mask.any():
        return
    ((shape, _), *_) = rasterio.features.shapes(mask, mask=mask == 1)
    polygon = shapely.geometry.shape(shape)
    coded = run_lengths(polygon, mask.shape)
    assert sum(coded["counts"]) == mask.size
    assert all(count > 0 for count in coded["counts"][1:])
    expected = rasterio.features.rasterize([polygon], mask.shape) == 1
    np.testing.assert_array_equal(decoded(coded["counts"], mask.shape), expected)


def noise(seed: int, height: int = 23, width: int = 31) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(4, (height, width), p=(0.2, 0.6, 0.1, 0.1)).astype(np.uint8)


def photos() -> list[Photo]:
    found = [Photo(source_id=f"line ä/{n}.png", mask=noise(n, 20 + n, 40 - n)) for n in range(5)]
    found[1] = Photo(
        source_id="line ä/1.png", mask=found[1].mask, item={"line": "seven", "verdict": "REVIEW"}
    )
    found[2] = Photo(source_id="line ä/2.png", mask=found[2].mask, item={"status": "quarantined"})
    return found


def export(output: str, target: Path, **options: tuple[str, ...]) -> dict:
    written = export_coco(output, target, **options)
    document = json.loads(target.read_text(encoding="ascii"))
    assert (written.images, written.annotations) == (len(document["images"]), len(document["annotations"]))
    return document


def test_every_region_is_there_to_the_pixel_and_no_stale_one(tmp_path: Path) -> None:
    made = photos()
    stale = [Photo(source_id="line ä/0.png", mask=noise(77)), Photo(source_id="gone.png", mask=noise(78))]
    document = export(make_photo_output(tmp_path / "out", made, stale=stale), tmp_path / "all.json")
    images = {image["file_name"]: image for image in document["images"]}
    assert list(images) == [f"line ä/{n}.png" for n in (0, 1, 3, 4)]
    assert (images["line ä/1.png"]["verdict"], images["line ä/1.png"]["attributes"]) == (
        "REVIEW",
        {"line": "seven"},
    )
    ids = [annotation["id"] for annotation in document["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    holed = 0
    for photo in (made[n] for n in (0, 1, 3, 4)):
        image = images[photo.source_id]
        assert (image["height"], image["width"]) == photo.mask.shape
        left = {class_id: ndimage.label(photo.mask == class_id) for class_id in (1, 2, 3)}
        own = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        assert len(own) == sum(count for _, count in left.values())
        for annotation in own:
            pixels = drawn(annotation, photo.mask.shape)
            labels, _ = left[annotation["category_id"]]
            (label,) = np.unique(labels[pixels])
            np.testing.assert_array_equal(pixels, labels == label)
            assert label > 0
            rows, cols = np.nonzero(pixels)
            size = [np.ptp(cols) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == [cols.min(), rows.min(), *size]
            assert annotation["area"] == pixels.sum()
            assert annotation["score"] == pytest.approx(annotation["category_id"] / 10, abs=0.01)
            holed += annotation["iscrowd"]
    assert holed > 3
    assert document["categories"] == [{"id": i, "name": CLASSES[i]} for i in (1, 2, 3)]


def test_classes_are_chosen_by_name_or_id(tmp_path: Path) -> None:
    output = make_photo_output(tmp_path / "out", photos())
    document = export(output, tmp_path / "some.json", classes=("crack", "3"))
    assert {a["category_id"] for a in document["annotations"]} == {2, 3}
    assert [category["name"] for category in document["categories"]] == ["crack", "fray"]
    assert len(document["images"]) == 4
    with pytest.raises(ConfigError, match=r"'fire'.*good, hole"):
        export_coco(output, tmp_path / "some.json", classes=("fire",))


def test_an_output_that_found_nothing_is_a_valid_file(tmp_path: Path) -> None:
    clean = [Photo(source_id="a.png", mask=np.zeros((5, 9), np.uint8))]
    document = export(make_photo_output(tmp_path / "out", clean), tmp_path / "none.json")
    assert (len(document["images"]), document["annotations"]) == (1, [])


def test_the_command_takes_json_and_refuses_maps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = make_photo_output(tmp_path / "out", photos())
    said = []
    for arguments in (["a.json"], ["a.json", "--crs", "EPSG:4326"], ["a.geojson"], ["a.gpkg"]):
        with pytest.raises(SystemExit) as ended:
            main(["export", output, str(tmp_path / arguments[0]), *arguments[1:]])
        said.append((ended.value.code, "".join(capfd.readouterr())))
    assert [code for code, _ in said] == [0, 2, 2, 2]
    assert "4 images" in said[0][1]
    for _, words in said[1:]:
        assert "no place" in words
    assert not (tmp_path / "a.geojson").exists()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    output = make_photo_output(tmp_path / "out", photos())
    with pytest.raises(OutputError, match=r"cannot write .*none/a\.json"):
        export_coco(output, tmp_path / "none" / "a.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_read_only_file_system_is_an_error_of_the_output(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    output = make_photo_output(tmp_path / "out", photos())
    request.getfixturevalue("read_only")
    with pytest.raises(OutputError, match=r"cannot write .*a\.json: Read-only file system"):
        export_coco(output, tmp_path / "a.json")


def test_a_class_that_was_merged_into_another_is_no_category(tmp_path: Path) -> None:
    merged = [Photo(source_id="a.png", mask=np.where(noise(1) == 2, 3, noise(1)).astype(np.uint8))]
    output = str(make_photo_output(tmp_path / "out", merged, classes=("good", "hole", "", "worn")))
    target = tmp_path / "regions.json"
    export_coco(output, target, classes=())
    categories = json.loads(target.read_text())["categories"]
    assert categories == [{"id": 1, "name": "hole"}, {"id": 3, "name": "worn"}]
    with pytest.raises(ConfigError, match="one of good, hole, worn"):
        export_coco(output, target, classes=("crack",))
