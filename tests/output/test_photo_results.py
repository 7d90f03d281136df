"""What is published and recorded of masks, against numpy and the regions of each photograph alone."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from factories import make_recipe
from photo_tables import RULES, files, listing_row, masks_of, rows_of, written
from photographs import product_of
from polygons import whole_regions
from rules import box, criterion
from sieved import expected

from batchseg.errors import OutputError
from batchseg.job.cleaning import Cleaning, Merge
from batchseg.job.recipe import RegionSettings, Ruleset
from batchseg.output import photo_results
from batchseg.output.columns import from_parquet, to_parquet
from batchseg.output.lock import hold
from batchseg.output.photo_mask import read_layer
from batchseg.output.photo_results import is_wanted
from batchseg.output.record import SCHEMA
from batchseg.output.region_parts import MEMBERS
from batchseg.regions.rows import PHOTO_COLUMNS
from batchseg.regions.scene_table import wanted_classes
from batchseg.regions.verdicts import judge


def test_rows_count_the_masks_pixels_and_regions(tmp_path):
    masks, settings = masks_of(), RegionSettings(classes=(0, 2, 3), min_area=3)
    product = product_of(*RULES, regions=settings, pixel_size=0.2)
    table = written(tmp_path, masks, product)
    assert table["source_id"].to_pylist() == list(masks)
    for number, (row, mask) in enumerate(zip(table.to_pylist(), masks.values(), strict=True)):
        ids, pixels = np.unique(mask[mask != 255], return_counts=True)
        regions = [
            (int(polygon.area), class_id)
            for class_id, polygon in whole_regions(mask, wanted_classes(settings, 255)).values()
            if polygon.area >= 3
        ]
        assert (row["class_ids"], row["class_pixels"]) == (ids.tolist(), pixels.tolist())
        assert row["class_area_m2"] == pytest.approx((pixels * 4e-8).tolist())
        assert row["class_regions"] == [sum(c == i for _, c in regions) for i in ids]
        assert (row["region_count"], row["valid_pixels"]) == (len(regions), (mask != 255).sum())
        assert row["largest_px"] == max(regions, default=(0, -1))[0]
        assert (row["largest_px"], row["largest_class"]) in (regions or [(0, -1)])
        assert row["empty"] == (mask == 255).all()
        assert (row["height"], row["width"]) == mask.shape
        assert (row["predicted"], row["content"], row["confidence"]) == (number, f"c{number}", 0)
        assert (row["status"], row["cpu_class"], row["error"]) == ("done", "avx2", "")
        assert {name: row[name] for name in listing_row("")} == listing_row(row["source_id"])
        assert (row["pixel"], row["product"]) == (make_recipe().digest, product.digest)
        assert (row["encoding"], row["judged"]) == (product.encoding, Ruleset(criteria=RULES).digest)


def test_a_photographs_confidence_is_that_of_its_surest_region(tmp_path):
    masks = masks_of(8)
    random = np.random.default_rng(0)
    sure = {name: random.integers(1, 256, mask.shape, dtype=np.uint8) for name, mask in masks.items()}
    for name, mask in masks.items():
        sure[name][mask == 255] = 0
    table = written(tmp_path, masks, product_of(), confidences=sure)
    regions = rows_of(masks, sure)
    for row in table.to_pylist():
        own = regions.filter(np.array(regions["source_id"].to_pylist()) == row["source_id"])
        assert row["confidence"] == pytest.approx(max(own["confidence"].to_pylist(), default=0))
        assert [made["path"].partition("/")[0] for made in row["outputs"]][:2] == ["masks", "confidence"]
        stored = tmp_path / row["outputs"][1]["path"]
        assert np.array_equal(read_layer(stored.read_bytes()), sure[row["source_id"]])


def test_verdicts_are_those_of_the_rules(tmp_path):
    masks = masks_of()
    table = written(tmp_path, masks, product_of(*RULES))
    judged = judge(Ruleset(criteria=RULES), rows_of(masks), table)
    assert table["verdict"].to_pylist() == judged["verdict"].to_pylist()
    assert table["rule"].to_pylist() == judged["rule"].fill_null("").to_pylist()
    assert set(table["verdict"].to_pylist()) == {"PASS", "FAIL", "REVIEW"}
    assert set(written(tmp_path, masks, product_of())["verdict"].to_pylist()) == {""}


@pytest.mark.parametrize("masks", ["all", "failed", "none"])
@pytest.mark.parametrize("form", ["png", "tif"])
def test_masks_are_kept_by_verdict(tmp_path, masks, form):
    photos = masks_of()
    table = written(tmp_path, photos, product_of(*RULES, masks=masks, mask_format=form))
    made = files(tmp_path)
    for row in table.to_pylist():
        path = f"masks/{row['source_id']}.{form}"
        wanted = masks == "all" or (masks == "failed" and row["verdict"] in ("FAIL", "REVIEW"))
        assert (path in made) == wanted == is_wanted(masks, row["verdict"])
        assert (path in [output["path"] for output in row["outputs"]]) == wanted
        if wanted:
            assert np.array_equal(read_layer(made[path]), photos[row["source_id"]])
        for output in row["outputs"]:
            data = made[output["path"]]
            assert (output["nbytes"], output["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    named = {output["path"] for row in table.to_pylist() for output in row["outputs"]}
    assert named == made.keys()


@pytest.mark.parametrize("masks", ["all", "failed", "none"])
def test_clean_masks_are_judged_and_what_was_predicted_is_kept_of_all(tmp_path, masks):
    photos = masks_of()
    photos["of one class.jpg"] = np.broadcast_to(np.uint8(3), (20, 30))
    merge = Cleaning(classes=product_of().classes, merges=(Merge(name="cool", ids=(2, 3)),), sieve=30)
    product = replace(product_of(*RULES, masks=masks), classes=merge.shown, cleaning=merge)
    table, made = written(tmp_path, photos, product), files(tmp_path)
    clean = {name: expected(mask, merge, 255) for name, mask in photos.items()}
    assert any((clean[name] != photos[name]).any() for name in photos)
    for row in table.to_pylist():
        name = row["source_id"]
        ids, pixels = np.unique(clean[name][clean[name] != 255], return_counts=True)
        assert (row["class_ids"], row["class_pixels"]) == (ids.tolist(), pixels.tolist())
        assert np.array_equal(read_layer(made[f"predicted/{name}.png"]), photos[name])
        if f"masks/{name}.png" in made:
            assert np.array_equal(read_layer(made[f"masks/{name}.png"]), clean[name])
    plain = written(tmp_path / "clean", clean, replace(product, cleaning=None))
    for column in ("verdict", "rule", "region_count", "largest_px", "largest_class", "class_regions"):
        assert table[column].to_pylist() == plain[column].to_pylist()
    assert {output["path"] for row in table.to_pylist() for output in row["outputs"]} == made.keys()


def test_one_part_holds_the_regions_of_all(tmp_path):
    masks = masks_of()
    table = written(tmp_path, masks, product_of(*RULES, masks="none"))
    (path,) = files(tmp_path)
    part = pq.read_table(tmp_path / path)
    assert part.replace_schema_metadata().equals(rows_of(masks))
    assert part.schema.remove_metadata().equals(PHOTO_COLUMNS)
    members = json.loads(part.schema.metadata[MEMBERS])
    assert members == sorted(set(part["source_id"].to_pylist()))
    assert json.loads(part.schema.metadata[b"geo"])["columns"]["geometry"]["crs"] is None
    for row in table.to_pylist():
        assert [made["path"] for made in row["outputs"]] == [path] * (row["source_id"] in members)


def test_without_regions_there_is_no_part(tmp_path):
    table = written(tmp_path, masks_of(), product_of(regions=None, masks="none"))
    assert not files(tmp_path) and not any(table["region_count"].to_pylist())
    nothing = {"a": np.zeros((5, 9), np.uint8)}
    written(tmp_path, nothing, product_of(masks="none"))
    assert not files(tmp_path)
    assert written(tmp_path, {}, product_of()).num_rows == 0


@pytest.mark.parametrize("held", [1, 4000])
def test_bytes_do_not_depend_on_how_many_masks_wait(tmp_path, monkeypatch, held):
    product, masks = product_of(*RULES, masks="failed"), masks_of(40)
    for number in range(3):  # regions for more than one page
        masks[f"noise {number}"] = np.random.default_rng(number).integers(0, 4, (90, 130), dtype=np.uint8)
    expected = written(tmp_path / "a", masks, product)
    monkeypatch.setattr(photo_results, "HELD_BYTES", held)
    assert written(tmp_path / "b", masks, product).equals(expected)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_parts_of_other_settings_or_versions_have_other_names(tmp_path):
    masks, product = masks_of(8), product_of(masks="none")
    written(tmp_path, masks, product)
    written(tmp_path, masks, product)
    assert len(files(tmp_path)) == 1
    written(tmp_path, masks, product, recipe=make_recipe(nodata=3))
    written(tmp_path, masks, product, cpu_class="avx512")
    written(tmp_path, masks, replace(product, regions=RegionSettings(min_area=2)))
    written(tmp_path, {name: masks[name] for name in list(masks)[:5]}, product)
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("options", [{"masks": "none"}, {"masks": "all", "regions": None}])
def test_a_worker_that_outlives_its_run_publishes_nothing(tmp_path, options):
    with hold(str(tmp_path), "first") as lock:
        lock.end_work()
        before = files(tmp_path)
        with pytest.raises(OutputError, match="has ended"):
            written(tmp_path, masks_of(), product_of(**options), epoch=lock.epoch)
        assert files(tmp_path) == before
    with hold(str(tmp_path), "second") as second:
        before = files(tmp_path)
        with pytest.raises(OutputError, match="another run took over"):
            written(tmp_path, masks_of(), product_of(**options), epoch=lock.epoch)
        assert files(tmp_path) == before
        written(tmp_path, masks_of(), product_of(**options), epoch=second.epoch)
        assert len(files(tmp_path)) > len(before)


def test_rows_go_into_a_ledger(tmp_path):
    table = written(tmp_path, masks_of(), product_of(*RULES))
    (back,) = from_parquet(to_parquet([table], "run"))
    assert back.cast(SCHEMA).equals(table)


def test_an_output_that_takes_no_file_is_no_photographs_fault(tmp_path):
    (tmp_path / "masks").write_text("in the way")
    with pytest.raises(OutputError):
        written(tmp_path, masks_of(), product_of())


def test_rows_tell_how_much_was_inspected(tmp_path):
    masks = masks_of()
    name = list(masks)[7]
    masks[name][:] = 0
    masks[name][:9, :9] = 255
    rules = (criterion(name="corner", interest=box(0, 0, 10, 5)), criterion(name="all", min_valid=0.3))
    rows = {row["source_id"]: row for row in written(tmp_path, masks, product_of(*rules)).to_pylist()}
    assert (rows[name]["interests"], rows[name]["interest_valid"]) == (Ruleset(criteria=rules).interests, [5])
    assert rows[name]["rule"] == "min_valid"
    assert (
        rows[name]["review_reason"] == "corner: 10 % of the region of interest has data, min_valid is 100 %"
    )
    nothing = rows[list(masks)[3]]
    assert (nothing["interest_valid"], nothing["verdict"], nothing["rule"]) == ([], "REVIEW", "min_valid")
    assert [row["interest_valid"] for row in rows.values()].count([]) == len(rows) - 1
    hit = [row for row in rows.values() if row["verdict"] == "FAIL"]
    assert hit and all(0 < row["rule_px"] <= row["largest_px"] for row in hit)


def test_where_corners_connect_rows_and_rules_tell_of_whole_regions(tmp_path):
    """A crack of single pixels along a diagonal, and another of two."""
    crack, pair = np.eye(40, 50, dtype=np.uint8), np.zeros((30, 20), np.uint8)
    pair[3, 4] = pair[4, 5] = pair[9, 9] = 2
    sure = {"a": np.where(crack, 200, 1).astype(np.uint8), "b": np.where(pair, 100, 1).astype(np.uint8)}
    sure["b"][4, 5] = 50
    rule = criterion(name="crack", min_area=40.0)
    for connectivity, verdict in ((8, "FAIL"), (4, "PASS")):
        regions = RegionSettings(connectivity=connectivity, min_area=2 if connectivity == 8 else 1)
        product = product_of(rule, regions=regions)
        table = written(tmp_path / str(connectivity), {"a": crack, "b": pair}, product, confidences=sure)
        a, b = table.to_pylist()
        assert (a["verdict"], a["region_count"]) == (verdict, 40)
        if connectivity == 8:
            assert (a["class_regions"], a["largest_px"], a["rule_px"]) == ([0, 1], 40, 40)
            assert (b["class_regions"], b["largest_px"], b["region_count"]) == ([0, 1], 2, 2)
            assert b["confidence"] == pytest.approx(75 / 255)
        else:
            assert (a["class_regions"], a["largest_px"], b["class_regions"]) == ([0, 40], 1, [0, 3])
