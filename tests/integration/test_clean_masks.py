"""`merge` and `sieve`: clean masks, what they are derived from, and the way back."""

from pathlib import Path
from typing import Any

import fsspec
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from numpy.typing import NDArray
from photo_runs import JobMaker, items, photograph, save, truth
from PIL import Image
from runs import interrupted, run, run_on_ray
from sieved import expected, flooded

from batchseg.driver import commit, scene_queue
from batchseg.errors import OutputError
from batchseg.job.cleaning import Cleaning, Merge
from batchseg.output import scene_mask
from batchseg.output.ledger import Ledger
from batchseg.tools.maintain import prune
from batchseg.tools.verify import verify

MERGE, SIEVE = "merge={land: [vegetation, soil]}", "sieve=12"
LAND = Merge(name="land", ids=(0, 2))
SHOWN = {0: "land", 1: "water", 3: "bright"}


def cleaned(
    mask: NDArray[np.uint8], *merges: Merge, sieve: int = 0, connectivity: int = 4
) -> NDArray[np.uint8]:
    clean = expected(mask, Cleaning(classes=(), merges=merges, sieve=sieve, connectivity=connectivity), 255)
    return clean.astype(np.uint8)


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter) -> Path:
    """Two scenes with specks of all classes, and with pixels that have no data."""
    for number, name in enumerate("ab"):
        pixels = reflectance(110, 150, seed=number)
        pixels[:, np.random.default_rng(number).random((110, 150)) < 0.02] = 9000
        pixels[:, 30:50, 40 : 60 + number] = 0
        write_raster(tmp_path / "in" / f"{name}.tif", pixels, nodata=0)
    return write_job()


def predicted(folder: Path, name: str = "a.tif") -> NDArray[np.uint8]:
    with rasterio.open(folder / "in" / name) as dataset:
        pixels = dataset.read()
    return spectral_mask(pixels, 10_000, (pixels != 0).any(axis=0))


def published(output: Path) -> dict[str, bytes]:
    folders = (output / name for name in ("masks", "predicted", "confidence"))
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def region_rows(output: Path) -> list[dict[str, Any]]:
    rows = [
        row for part in output.rglob("annotations/**/*.parquet") for row in pq.read_table(part).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["source_id"], row["region_id"]))


def check(output: Path) -> None:
    found = verify(str(output), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())


def derived(job: Path, *overrides: str) -> NDArray[np.uint8]:
    """The first mask, after a run that did both scenes without a tile through the network."""
    report = run(job, *overrides)
    assert (report.tally.done, report.tally.predicted) == (2, 0)
    check(job.parent / "out")
    return read_mask(job.parent / "out", "a.tif").astype(np.uint8)


def test_masks_are_cleaned_anew_without_predicting_and_come_back(tmp_path: Path, job: Path) -> None:
    output, mask = tmp_path / "out", predicted(tmp_path)
    assert run(job).tally.predicted > 0
    plain, plain_regions = published(output), region_rows(output)
    rows = pq.read_table(output / "items").to_pylist()
    assert not (output / "predicted").exists()

    both = cleaned(mask, LAND, sieve=12)
    assert not np.array_equal(both, cleaned(mask, LAND)), "there are specks to sieve"
    np.testing.assert_array_equal(derived(job, MERGE, SIEVE), both)
    for name in ("a.tif", "b.tif"):
        assert (output / "predicted" / name).read_bytes() == plain[f"masks/{name}"]
    assert run(job, MERGE, SIEVE, "output=fresh").tally.predicted > 0
    assert published(output) == published(tmp_path / "fresh")
    assert region_rows(output) == region_rows(tmp_path / "fresh")
    assert run(job, MERGE, SIEVE).skipped == 2

    np.testing.assert_array_equal(derived(job, "sieve=4"), cleaned(mask, sieve=4))
    eight = derived(job, MERGE, "sieve=4", "regions.connectivity=8")
    np.testing.assert_array_equal(eight, cleaned(mask, LAND, sieve=4, connectivity=8))
    np.testing.assert_array_equal(derived(job, MERGE), cleaned(mask, LAND))
    np.testing.assert_array_equal(derived(job), mask)
    assert published(output) == plain
    assert region_rows(output) == plain_regions
    assert pq.read_table(output / "items").to_pylist() == rows


def test_what_names_classes_names_the_merged_ones(tmp_path: Path, job: Path, command: Command) -> None:
    output = tmp_path / "out"
    run(job, MERGE, SIEVE, "regions.classes=[land, water]")
    mask = read_mask(output, "a.tif")
    ids, pixels = np.unique(mask[mask != 255], return_counts=True)
    row = pq.read_table(output / "items").to_pylist()[0]
    counted = [(c["class_id"], c["class_name"], c["pixels"]) for c in row["classes"]]
    assert counted == [(i, SHOWN[i], n) for i, n in zip(ids.tolist(), pixels.tolist(), strict=True)]

    labels = flooded(mask, 255, 4)
    first = {int(mask[labels == number][0]) for number in range(labels.max() + 1)}
    assert first <= set(SHOWN)
    mine = [row for row in region_rows(output) if row["source_id"] == "a.tif"]
    wanted = [n for n in range(labels.max() + 1) if mask[labels == n][0] in (0, 1)]
    assert len(mine) == len(wanted)
    assert {(row["class_id"], row["class_name"]) for row in mine} <= {(0, "land"), (1, "water")}

    with rasterio.open(output / "masks" / "a.tif") as dataset:
        tags, colors = dataset.tags(), dataset.colormap(1)
    named = {key: name for key, name in tags.items() if key.startswith("CLASS_")}
    assert named == {f"CLASS_{number}": name for number, name in SHOWN.items()}
    with rasterio.open(output / "predicted" / "a.tif") as dataset:
        assert dataset.tags()["CLASS_2"] == "vegetation"
        assert dataset.colormap(1)[0] == colors[0], "a merged class has the colour of its first"

    land, soil = ("export", output, tmp_path / "x.gpkg", "--class", "land"), "soil"
    assert command(*land).returncode == 0
    assert set(geopandas.read_file(tmp_path / "x.gpkg").class_name) == {"land"}
    assert "one of land, water, bright\n" in command(*land[:-1], soil).stderr
    summary = command("summary", output, "--since", "all").stdout
    assert "land" in summary
    assert "vegetation" not in summary
    assert "soil, vegetation become land" in command("plan", job, "--set", MERGE).stdout


def test_names_and_regions_alone_leave_a_clean_mask_where_it_is(tmp_path: Path, job: Path) -> None:
    output = tmp_path / "out"
    run(job, MERGE, SIEVE)
    before = published(output)
    derived(job, MERGE, SIEVE, "regions.min_area=20")
    assert published(output) == before
    renamed = "merge={ground: [vegetation, soil]}"
    derived(job, renamed, SIEVE)
    assert {row["class_name"] for row in region_rows(output)} <= {"ground", "water", "bright"}
    assert {key: data for key, data in published(output).items() if key.startswith("predicted/")} == {
        key: data for key, data in before.items() if key.startswith("predicted/")
    }


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_shards_and_executors_change_no_byte(tmp_path: Path, job: Path, executor: str) -> None:
    keys = (MERGE, SIEVE, "confidence=true", f"executor={executor}")
    run(job, *keys, "output=whole")
    for tiles in (1, 2):
        run(job, *keys, "workers=2", f"shard_tiles={tiles}", f"output=by-{tiles}")
        assert published(tmp_path / f"by-{tiles}") == published(tmp_path / "whole")
        assert region_rows(tmp_path / f"by-{tiles}") == region_rows(tmp_path / "whole")


@pytest.mark.slow
def test_a_cluster_changes_no_byte(tmp_path: Path, job: Path, ray_cluster: str) -> None:
    run(job, MERGE, SIEVE, "output=inline")
    run_on_ray(job, ray_cluster, MERGE, SIEVE, "output=ray", "shard_tiles=1")
    assert published(tmp_path / "ray") == published(tmp_path / "inline")


def test_confidence_stays_the_winning_classs(tmp_path: Path, job: Path) -> None:
    run(job, "confidence=true", "output=plain")
    run(job, "confidence=true", MERGE, SIEVE)
    plain, clean = published(tmp_path / "plain"), published(tmp_path / "out")
    sure = {key for key in plain if key.startswith("confidence/")}
    assert sure
    assert {key: clean[key] for key in sure} == {key: plain[key] for key in sure}


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (MERGE, SIEVE, "shard_tiles=1")
    run(job, *keys, "output=whole")
    monkeypatch.setattr(commit, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(scene_queue, "LEASE_SECONDS", 0.0, raising=False)
    interrupted(job, *keys)
    assert Ledger(str(tmp_path / "out")).shards("a.tif")
    assert run(job, *keys).tally.done == 2
    assert published(tmp_path / "out") == published(tmp_path / "whole")
    check(tmp_path / "out")


@pytest.mark.parametrize("before", [(), ("sieve=4",)], ids=["plain", "clean"])
def test_what_ends_between_two_files_of_a_scene_is_made_whole(
    tmp_path: Path, job: Path, before: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mask is replaced already, and nothing of it is recorded."""
    run(job, *before)
    publish = scene_mask.publish_output

    def fail(output: str, path: str, local: Path) -> Any:
        if path.startswith("predicted/"):
            msg = "the disk is gone"
            raise OutputError(msg)
        return publish(output, path, local)

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="the disk is gone"):
        patch.setattr(scene_mask, "publish_output", fail)
        run(job, MERGE, SIEVE)
    run(job, MERGE, SIEVE)  # a mask that is no longer the recorded one is left to the next run
    report = run(job, MERGE, SIEVE)
    assert (report.tally.done, report.skipped) in {(0, 2), (1, 1)}
    run(job, MERGE, SIEVE, "output=fresh")
    assert published(tmp_path / "out") == published(tmp_path / "fresh")
    check(tmp_path / "out")


def test_a_lost_clean_mask_is_made_again_and_a_lost_prediction_predicted(tmp_path: Path, job: Path) -> None:
    output = tmp_path / "out"
    run(job, MERGE, SIEVE)
    whole = published(output)
    (output / "masks" / "a.tif").unlink()
    assert run(job, MERGE, SIEVE).tally.predicted == 0
    assert published(output) == whole
    (output / "predicted" / "a.tif").unlink()
    found = verify(str(output), quick=True, say=lambda line: None)
    assert found.problems == ("predicted/a.tif: missing",)
    assert run(job, MERGE, SIEVE).tally.predicted > 0
    assert published(output) == whole
    check(output)


def test_a_damaged_prediction_is_not_derived_from(tmp_path: Path, job: Path) -> None:
    output = tmp_path / "out"
    run(job, MERGE, SIEVE)
    path = output / "predicted" / "a.tif"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert run(job).tally.failed == 1
    assert run(job).tally.predicted > 0
    np.testing.assert_array_equal(read_mask(output, "a.tif"), predicted(tmp_path))
    check(output)


def test_predictions_of_sources_that_are_gone_are_pruned(tmp_path: Path, job: Path) -> None:
    output = tmp_path / "out"
    run(job, MERGE)
    (tmp_path / "in" / "a.tif").unlink()
    run(job, MERGE)
    assert "predicted/a.tif" in prune(str(output), "prune", dry_run=False, everything=False).files
    assert {path.name for path in output.rglob("predicted/*")} == {"b.tif"}
    check(output)


def test_classes_that_cleaning_takes_away_are_nothing_odd(tmp_path: Path, job: Path) -> None:
    run(job)
    everything = "merge={all: [soil, water, vegetation, bright]}"
    report = run(job, everything)
    assert (report.classes.only_class, report.classes.warning) == ("all", "")


def test_statistics_of_other_pixels_go(tmp_path: Path, job: Path) -> None:
    output = tmp_path / "out"
    run(job)
    sidecar = output / "masks" / "a.tif.aux.xml"
    note = '<Metadata><MDI key="NOTE">kept</MDI><MDI key="STATISTICS_MEAN">1.5</MDI></Metadata>'
    sidecar.write_text(
        sidecar.read_text().replace('<PAMRasterBand band="1">', f'<PAMRasterBand band="1">{note}')
    )
    run(job, SIEVE)
    assert "kept" in sidecar.read_text()
    assert "STATISTICS_MEAN" not in sidecar.read_text()
    run(job)
    assert "kept" in sidecar.read_text()


@pytest.mark.parametrize("shards", ["shard_tiles=1", "shard_tiles=20"], ids=["in pieces", "whole"])
def test_a_scene_of_too_many_regions_is_left_and_said(
    tmp_path: Path, job: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    run(job)
    plain = published(output)
    with monkeypatch.context() as patch:
        patch.setattr(scene_mask, "memory_bytes", lambda: 2000)
        report = run(job, SIEVE)
    assert report.tally.failed == 2
    assert "sieve: its mask has up to" in report.refused[0].error
    assert published(output) == plain, "what was there stays"
    check(output)
    assert run(job, "sieve=null").tally.done == 2
    assert published(output) == plain
    check(output)
    with monkeypatch.context() as patch:
        patch.setattr(scene_mask, "memory_bytes", lambda: 2000)
        fresh = run(job, SIEVE, shards, "output=fresh")
    assert fresh.tally.failed == 2
    assert "sieve: its mask has up to" in fresh.refused[0].error


PHOTO_RULES = [{"name": "red", "class": "red", "min_area": 2}, {"name": "cool", "class": "cool"}]
PHOTO_KEYS: dict[str, Any] = {"merge": {"cool": ["green", "blue"]}, "sieve": 20}
COOL = Merge(name="cool", ids=(2, 3))


def photographs(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """With specks, that a sieve takes away, and with squares of 56 pixels, that stay."""
    images = {}
    for seed in range(6):
        image = photograph(seed, red=seed % 2, blue=2 * (seed % 3 == 2))
        image[5:8, 3:5] = (220, 30, 30)
        image[40:42, 60:64] = (30, 220, 30)
        images[f"{seed}.png"] = image
        save(folder / "in" / f"{seed}.png", image)
    return images


def check_photographs(output: Path, images: dict[str, NDArray[np.uint8]], *merges: Merge, sieve: int) -> None:
    found = verify(str(output), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())
    rows = items(output)
    for name, image in images.items():
        mask = cleaned(truth(image), *merges, sieve=sieve)
        ids, pixels = np.unique(mask, return_counts=True)
        counted = {c["class_id"]: c["pixels"] for c in rows[name]["classes"]}
        assert counted == dict(zip(ids.tolist(), pixels.tolist(), strict=True))
        fails = "red" if 1 in ids else "cool" if merges and 2 in ids else None
        assert (rows[name]["verdict"], rows[name]["rule"]) == ("FAIL" if fails else "PASS", fails)
        kept = output / "masks" / name
        assert kept.exists() == bool(fails)
        if fails:
            np.testing.assert_array_equal(np.asarray(Image.open(kept)), mask)


def test_photographs_are_judged_by_clean_masks(tmp_path: Path, photo_job: JobMaker) -> None:
    images, output = photographs(tmp_path), tmp_path / "out"
    plain = {"rules": PHOTO_RULES[:1], "classes": ["none", "red", "green", "blue"]}
    clean = plain | {"rules": PHOTO_RULES} | PHOTO_KEYS
    run(photo_job(**plain))
    check_photographs(output, images, sieve=0)
    before = published(output)
    assert all(row["verdict"] == "FAIL" for row in items(output).values()), "a speck is red in each"

    report = run(photo_job(**clean))
    assert (report.tally.done, report.sums.tiles) == (6, 0)
    check_photographs(output, images, COOL, sieve=20)
    assert {row["verdict"] for row in items(output).values()} == {"PASS", "FAIL"}
    for name, image in images.items():
        np.testing.assert_array_equal(np.asarray(Image.open(output / "predicted" / name)), truth(image))
        assert (output / "predicted" / name).read_bytes() == before[f"masks/{name}"]
    derived_files = published(output)
    assert run(photo_job(**clean, output="fresh")).sums.tiles > 0
    assert published(tmp_path / "fresh") == derived_files

    assert run(photo_job(**plain, sieve=3)).sums.tiles == 0
    check_photographs(output, images, sieve=3)
    assert run(photo_job(**plain)).sums.tiles == 0, "those that passed have what was predicted as well"
    check_photographs(output, images, sieve=0)
    assert published(output) == before


def test_photographs_of_which_no_mask_is_kept_are_derived_too(tmp_path: Path, photo_job: JobMaker) -> None:
    images, output = photographs(tmp_path), tmp_path / "out"
    keys: dict[str, Any] = {"rules": PHOTO_RULES[:1], "masks": "none", "mask_format": "tif"}
    run(photo_job(**keys, sieve=20))
    assert not (output / "masks").exists()
    assert len(list((output / "predicted").glob("*.tif"))) == 6
    report = run(photo_job(**keys | {"masks": "all"}))
    assert (report.tally.done, report.sums.tiles) == (6, 0)
    assert not list(output.rglob("predicted/*"))
    for name, image in images.items():
        with rasterio.open(output / items(output)[name]["mask"]) as dataset:
            np.testing.assert_array_equal(dataset.read(1), truth(image))


def test_in_a_bucket_it_is_the_same(tmp_path: Path, job: Path, bucket: str) -> None:
    output = f"output={bucket}/out"
    run(job, output)
    for keys in ((MERGE, SIEVE), ()):
        report = run(job, *keys, output)
        assert (report.tally.done, report.tally.predicted) == (2, 0)
        found = verify(f"{bucket}/out", quick=False, say=lambda line: None)
        assert (found.problems, found.unrecorded) == ((), ())
        run(job, *keys)
        store = fsspec.filesystem("s3")
        names = {
            path.partition("/out/")[2] for path in store.find(f"{bucket}/out") if "_batchseg" not in path
        }
        shown = {
            name: store.cat(f"{bucket}/out/{name}") for name in names if name.startswith(("masks", "pred"))
        }
        assert shown == published(tmp_path / "out")


def test_copies_are_clean_too(tmp_path: Path, photo_job: JobMaker) -> None:
    images, output = photographs(tmp_path), tmp_path / "out"
    twin = save(tmp_path / "in" / "twin.png", images["1.png"])
    assert twin.read_bytes() == (tmp_path / "in" / "1.png").read_bytes()
    report = run(photo_job(rules=PHOTO_RULES, **PHOTO_KEYS, same_content=True))
    assert report.copied == 1
    check_photographs(output, {**images, "twin.png": images["1.png"]}, COOL, sieve=20)
