"""Nights over products as agencies deliver them, real ones where there are some."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import SHARED, Command, JobWriter, read_mask, reflectance, spectral_mask
from product_trees import L1C, L2A, OLI, TM, classes, landsat, packed, sentinel2
from runs import run
from stored import put

REAL = SHARED / "landsat-c2"
ASSETS = ["red", "green", "blue", "nir08"]
NUMBERS = (4, 3, 2, 5)

needs_products = pytest.mark.skipif(not REAL.is_dir(), reason="no real products: set BATCHSEG_DATA")


def by_patterns(folder: Path) -> dict:
    pairs = zip(ASSETS, NUMBERS, strict=True)
    return {"bands": {name: f"{folder}/*/{{scene}}_SR_B{number}.TIF" for name, number in pairs}}


def masks_of(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "masks").glob("*.tif"))}


def errors_of(output: Path) -> dict[str, str]:
    rows = pq.read_table(output / "items" / "items.parquet").to_pylist()
    return {row["source_id"]: row["error"] or "" for row in rows}


@pytest.fixture
def night(tmp_path: Path, write_job: JobWriter, command: Command):
    """Runs a job over reflectance; its masks' files, byte by byte."""

    def run(inputs: object, output: str, code: int = 0, **keys) -> dict[str, bytes]:
        job = write_job(inputs=inputs, output=output, scale="metadata", **keys)
        done = command("run", job, "--executor", "inline")
        assert done.returncode == code, done.stderr
        return masks_of(tmp_path / output) if code in (0, 3) else {"stderr": done.stderr.encode()}

    return run


@needs_products
def test_real_products_of_landsat_give_the_masks_of_patterns(tmp_path: Path, night) -> None:
    expected = night(by_patterns(REAL), "patterns")
    assert len(expected) == 2
    assert night({"landsat": str(REAL), "assets": ASSETS}, "preset") == expected
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in REAL.glob("*/*"):
        if path.suffix != ".json":  # by *_MTL.xml alone
            shutil.copyfile(path, flat / path.name)
    assert night({"landsat": str(flat), "assets": ASSETS}, "of-flat") == expected


@needs_products
def test_real_items_are_read_where_their_files_lie_beside_them(tmp_path: Path, night) -> None:
    expected = night(by_patterns(REAL), "patterns")
    items = [json.loads(path.read_text()) for path in sorted(REAL.glob("*/*_SR_stac.json"))]
    for path in REAL.glob("*/*_SR_stac.json"):
        one = night({"stac": str(path), "assets": ASSETS}, path.parent.name)
        ((name, mask),) = one.items()
        assert expected[name] == mask
        numbered = [f"SR_B{number}.TIF" for number in NUMBERS]
        assert night({"stac": str(path), "assets": numbered}, f"{path.parent.name}-n") == one
    folder = tmp_path / "all"
    folder.mkdir()
    for path in REAL.glob("*/*.[Tx]*"):
        shutil.copyfile(path, folder / path.name)
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    assert night({"stac": str(folder / "items.json"), "assets": ASSETS}, "all-items") == expected


@needs_products
@pytest.mark.parametrize(
    ("flags", "bits"),
    [(["clouds"], [3]), (["clouds", "shadows"], [3, 4]), (["dilated_cloud", "cirrus"], [1, 2])],
)
def test_no_data_by_flags_is_numpys_bit_test_on_real_products(tmp_path: Path, night, flags, bits) -> None:
    bare = night({"landsat": str(REAL), "assets": ASSETS}, "bare")
    masked = night({"landsat": str(REAL), "assets": ASSETS, "mask": flags}, "masked")
    assert bare.keys() == masked.keys() and len(bare) == 2
    seen = 0
    for path in REAL.glob("*/*_QA_PIXEL.TIF"):
        name = path.name.removesuffix("_QA_PIXEL.TIF")
        with rasterio.open(path) as dataset:
            marked = np.bitwise_and(dataset.read(1), sum(2**bit for bit in bits)) != 0
        seen += int(marked.sum())
        before, after = (read_mask(tmp_path / output, name) for output in ("bare", "masked"))
        np.testing.assert_array_equal(after == 255, marked | (before == 255))
        np.testing.assert_array_equal(after[~marked], before[~marked])
    assert seen
    pattern = {"file": f"{REAL}/*/{{scene}}_QA_PIXEL.TIF", "bits": bits}
    assert night(by_patterns(REAL) | {"mask": pattern}, "patterns") == masked


@pytest.mark.slow
@needs_products
def test_items_and_lists_may_name_a_mask_too(tmp_path: Path, night) -> None:
    flags = {"landsat": str(REAL), "assets": ASSETS, "mask": ["clouds", "shadows"]}
    masked = night(flags, "masked")
    for path in REAL.glob("*/*_SR_stac.json"):
        mask = {"asset": "QA_PIXEL.TIF", "bits": [3, 4]}
        one = night({"stac": str(path), "assets": ASSETS, "mask": mask}, path.parent.name)
        assert one.items() <= masked.items() and len(one) == 1
    rows = ["name," + ",".join(ASSETS) + ",qa"]
    for path in sorted(REAL.glob("*/*_QA_PIXEL.TIF")):
        files = [str(path).replace("QA_PIXEL", f"SR_B{number}") for number in NUMBERS]
        rows.append(",".join([path.name.removesuffix("_QA_PIXEL.TIF"), *files, str(path)]))
    (tmp_path / "list.csv").write_text("\n".join(rows))
    given = {
        "manifest": "list.csv",
        "columns": ASSETS,
        "id": "name",
        "mask": {"column": "qa", "bits": [3, 4]},
    }
    assert night(given, "listed") == masked
    # Another mask, or none, is another pixel setting.
    for other in ({"mask": ["clouds"]}, {}):
        given = {"landsat": str(REAL), "assets": ASSETS} | other
        said = night(given, "masked", code=2)["stderr"].decode()
        assert "holds masks made with other settings" in said
        assert 'mask: ["clouds, shadows"] -> ' + ('["clouds"]' if other else "null") in said
    assert night(flags, "masked") == masked


S2_ASSETS = ["red", "green", "blue", "nir"]
S2_FILES = ("B04_10m", "B03_10m", "B02_10m", "B08_10m")


def made_product(root: Path, **more) -> np.ndarray:
    """Level 2A with four bands of 10 m and a scene classification of 20 m; its reflectance times 10,000."""
    whole = reflectance(80, 100)
    bands = dict(zip(S2_FILES, (whole + 1000).astype(np.uint16), strict=True))
    sentinel2(root, bands | {"SCL_20m": classes(40, 50)}, **more)
    return whole


@pytest.mark.parametrize("name", [f"{L2A}.SAFE", L2A])
def test_sentinel_2s_scene_classes_are_no_data_by_name(tmp_path: Path, night, name: str) -> None:
    whole = made_product(tmp_path / "in" / name, metadata="MTD_MSIL2a.xml")
    given = {"sentinel2": "in", "assets": S2_ASSETS, "resampling": "bilinear", "mask": ["clouds", "shadows"]}
    night(given, "out")
    marked = np.kron(np.isin(classes(40, 50), (3, 8, 9)), np.ones((2, 2), bool))
    np.testing.assert_array_equal(read_mask(tmp_path / "out", L2A), spectral_mask(whole, 10_000, ~marked))


@pytest.mark.parametrize("ending", ["", ".zip"])
@pytest.mark.parametrize(("flags", "bands"), [(["clouds"], [0]), (["cirrus", "snow"], [1, 2])])
def test_level_1cs_clouds_are_no_data_beside_level_2as(
    tmp_path: Path, night, flags: list[str], bands: list[int], ending: str
) -> None:
    """Both levels in one input: each by its own file. A pixel of the mask is 6 x 6 of the bands."""
    whole = made_product(tmp_path / "in" / f"{L2A}.SAFE")
    flagged = (np.random.default_rng(4).random((3, 14, 17)) < 0.3).astype(np.uint8)
    files = dict(zip(("B04", "B03", "B02", "B08"), (whole + 1000).astype(np.uint16), strict=True))
    folder = "made" if ending else "in"
    sentinel2(tmp_path / folder / f"{L1C}.SAFE", files | {"MSK_CLASSI_B00": flagged})
    if ending:
        packed(tmp_path / folder / f"{L1C}.SAFE", tmp_path / "in" / f"{L1C}.zip", top=f"{L1C}.SAFE")
    given = {"sentinel2": "in", "assets": S2_ASSETS, "resampling": "bilinear", "mask": flags}
    night(given, "out")
    marked = np.kron(flagged[bands].any(axis=0), np.ones((6, 6), bool))[:80, :100]
    assert 0.1 < marked.mean() < 0.9
    np.testing.assert_array_equal(read_mask(tmp_path / "out", L1C), spectral_mask(whole, 10_000, ~marked))
    numbers = (8, 9) if "clouds" in flags else (10, 11)
    marked = np.kron(np.isin(classes(40, 50), numbers), np.ones((2, 2), bool))
    np.testing.assert_array_equal(read_mask(tmp_path / "out", L2A), spectral_mask(whole, 10_000, ~marked))


def test_shadows_of_level_1c_are_known_to_nobody(tmp_path: Path, night) -> None:
    whole = made_product(tmp_path / "in" / f"{L2A}.SAFE")
    files = dict.fromkeys(("B02", "B03", "B04", "B08"), whole[0])
    sentinel2(tmp_path / "in" / f"{L1C}.SAFE", files | {"MSK_CLASSI_B00": np.zeros((3, 14, 17), np.uint8)})
    given = {"sentinel2": "in", "assets": S2_ASSETS, "resampling": "bilinear", "mask": ["clouds", "shadows"]}
    night(given, "out", code=3)
    assert errors_of(tmp_path / "out")[L1C].startswith(
        "is of Level 1C, which marks clouds, cirrus, snow alone"
    )
    assert (tmp_path / "out" / "masks" / f"{L2A}.tif").exists()


@pytest.mark.slow
@needs_products
def test_real_products_in_archives_give_the_same_masks(tmp_path: Path, night) -> None:
    mask = {"mask": ["clouds", "shadows"]}
    expected = night({"landsat": str(REAL), "assets": ASSETS, **mask}, "folders")
    for ending, method in (("tar", 0), ("zip", zipfile.ZIP_STORED), ("zip", zipfile.ZIP_DEFLATED)):
        kind = f"{ending}{method}"
        for folder in (path for path in REAL.iterdir() if path.is_dir()):
            (mtl,) = folder.glob("*_MTL.xml")
            name = mtl.name.removesuffix("_MTL.xml")
            packed(folder, tmp_path / "in" / kind / f"{name}.{ending}", method=method)
        given = {"landsat": f"in/{kind}", "assets": ASSETS, **mask}
        assert night(given, f"of-{kind}") == expected
        (path, *_) = sorted((tmp_path / "in" / kind).iterdir())
        path.write_bytes(path.read_bytes()[: -path.stat().st_size // 2])
        night(given, f"of-{kind}", code=3)
        assert "is a damaged archive, or none" in errors_of(tmp_path / f"of-{kind}")[path.stem]


@pytest.mark.parametrize("ending", ["SAFE.zip", "zip", "tar"])
@pytest.mark.parametrize("top", [f"{L2A}.SAFE", ""])
def test_sentinel_2s_archives_are_read_where_they_lie(tmp_path: Path, night, ending: str, top: str) -> None:
    whole = made_product(tmp_path / "made" / L2A)
    archive = packed(tmp_path / "made" / L2A, tmp_path / "in" / f"{L2A}.{ending}", top=top)
    (tmp_path / "in" / f"{L1C}.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "in" / "photographs.zip").write_bytes(b"PK")
    # What lies beside a raster, in the archive or beside it, may be any file: GDAL is not shown it.
    (tmp_path / "in" / f"{archive.name}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>3000</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    given = {"sentinel2": "in", "assets": S2_ASSETS, "resampling": "bilinear", "mask": ["clouds", "shadows"]}
    night(given, "out", code=3)
    marked = np.kron(np.isin(classes(40, 50), (3, 8, 9)), np.ones((2, 2), bool))
    np.testing.assert_array_equal(read_mask(tmp_path / "out", L2A), spectral_mask(whole, 10_000, ~marked))
    assert errors_of(tmp_path / "out")[L1C].startswith("is compressed as a whole: unpack it")
    assert set(errors_of(tmp_path / "out")) == {L1C, L2A}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("named", [True, False])
def test_products_of_two_satellites_are_of_one_unit(
    tmp_path: Path, write_job: JobWriter, order: int, named: bool
) -> None:
    """Raw values of one end at 36,000 and of the other at 3,000: reflectance is what is compared."""
    land = reflectance(80, 100)
    dark = (land // 2 + 1000).astype(np.uint16)
    sentinel2(tmp_path / "s" / f"{L2A}.SAFE", dict(zip(S2_FILES, dark, strict=True)))
    raw = np.round((land * 2.2 / 10_000 + 0.2) / 2.75e-5).astype(np.uint16)
    for path in range(38, 42):
        name = OLI.replace("038", f"{path:03}")
        landsat(tmp_path / "l" / name, name, {f"SR_B{n}": band for n, band in zip(NUMBERS, raw, strict=True)})
    sets = {"s": {"sentinel2": "s", "assets": S2_ASSETS}, "l": {"landsat": "l", "assets": ASSETS}}
    chosen = dict(list(sets.items())[::order])
    inputs = chosen if named else list(chosen.values())
    job = write_job(inputs=inputs, scale="metadata", bands=[1, 2, 3, 4])
    report = run(job)
    assert (report.tally.done, report.warnings) == (5, ())


def test_a_product_without_its_metadata_says_so_and_gets_no_scale_to_write(tmp_path: Path, night) -> None:
    """0.1 of reflectance lie between {divide: 10000} and what the metadata say."""
    made_product(tmp_path / "in" / f"{L2A}.SAFE")
    other = L2A.replace("T33UUU", "T33UUV")
    root = tmp_path / "in" / f"{other}.SAFE"
    made_product(root)
    expected = night({"sentinel2": "in", "assets": S2_ASSETS}, "whole")
    granule = {"sentinel2": f"in/{other}.SAFE/GRANULE", "assets": S2_ASSETS}
    assert night(granule, "granule") == {f"{other}.tif": expected[f"{other}.tif"]}
    (root / "MTD_MSIL2A.xml").unlink()
    archive = packed(root, tmp_path / "in" / "a.zip", top=f"{other.replace('UUV', 'UUW')}.SAFE")
    assert list(night({"sentinel2": "in", "assets": S2_ASSETS}, "mixed", code=3)) == [f"{L2A}.tif"]
    said = {name: error for name, error in errors_of(tmp_path / "mixed").items() if error}
    for name in (other, other.replace("UUV", "UUW")):
        missing = f"MTD_MSIL2A.xml is missing in {name}.SAFE; fetch the product again"
        assert said.pop(name) == f"has no scale and offset: {missing}"
    assert not said
    archive.unlink()
    for given in (granule, granule | {"sentinel2": f"in/{other}.SAFE"}):
        refused = night(given, "alone", code=2)["stderr"].decode()
        assert f"MTD_MSIL2A.xml is missing in {other}.SAFE; fetch the product again" in refused
        assert "divide" not in refused and "Samples hold" not in refused
    bands = dict.fromkeys([f"SR_B{n}" for n in NUMBERS], reflectance(20, 30)[0])
    (landsat(tmp_path / "l" / OLI, OLI, bands) / f"{OLI}_MTL.xml").unlink()
    refused = night({"landsat": "l", "assets": ASSETS}, "of-landsat", code=2)["stderr"].decode()
    assert f"{OLI}_MTL (.json, .xml or .txt) is missing in {OLI}; fetch the product again" in refused
    assert "divide" not in refused


def hurt(archive: Path, member: str) -> None:
    """Change 40 bytes in the middle of a member's own."""
    with zipfile.ZipFile(archive) as file:
        info = next(info for info in file.infolist() if info.filename.endswith(member))
        begin = info.header_offset + 30 + len(info.filename)
    data = bytearray(archive.read_bytes())
    at = begin + info.compress_size // 2
    data[at : at + 40] = bytes(byte ^ 0x55 for byte in data[at : at + 40])
    archive.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("member", ["SR_B3.TIF", "QA_PIXEL.TIF", "MTL.xml"])
def test_a_zip_of_landsat_with_a_damaged_member_is_quarantined(
    tmp_path: Path, night, method: int, member: str
) -> None:
    other = OLI.replace("038", "039")
    for name in (OLI, other):
        bands = {f"SR_B{n}": b for n, b in zip(NUMBERS, reflectance(70, 90), strict=True)}
        bands |= {"QA_PIXEL": classes(70, 90).astype(np.uint16), "SR_B7": bands["SR_B4"]}
        packed(landsat(tmp_path / name, name, bands), tmp_path / "in" / f"{name}.zip", method=method)
    hurt(tmp_path / "in" / f"{OLI}.zip", "SR_B7.TIF")  # that nobody reads
    given = {"landsat": "in", "assets": ASSETS, "mask": ["clouds"]}
    assert len(night(given, "whole")) == 2
    hurt(tmp_path / "in" / f"{OLI}.zip", member)
    assert list(night(given, "out", code=3)) == [f"{other}.tif"]
    said = errors_of(tmp_path / "out")[OLI]
    assert re.search(
        f"bad CRC in {OLI}_{member}: its bytes|cannot be unpacked|while decompressing data", said
    )


def test_a_zip_of_sentinel_2_with_a_damaged_band_is_quarantined(tmp_path: Path, night) -> None:
    made_product(tmp_path / "made" / L2A)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = packed(tmp_path / "made" / L2A, tmp_path / "in" / f"{L2A}.zip", method=method)
        hurt(archive, "B04_10m.jp2")
        night({"sentinel2": "in", "assets": S2_ASSETS}, f"out-{method}", code=3)
        assert re.search("^(bad CRC|'.*' cannot be unpacked)", errors_of(tmp_path / f"out-{method}")[L2A])


def test_sidecars_in_an_archive_are_not_opened(tmp_path: Path, night) -> None:
    whole = made_product(tmp_path / "made" / L2A)
    images = next((tmp_path / "made" / L2A).glob("GRANULE/*/IMG_DATA/R10m"))
    for path in list(images.glob("*.jp2")):
        (images / f"{path.name}.ovr").write_bytes(b'<VRTDataset rasterXSize="1" rasterYSize="1"/>')
        (images / f"{path.name}.msk").write_bytes(b'<VRTDataset rasterXSize="1" rasterYSize="1"/>')
        (images / f"{path.name}.aux.xml").write_text(
            '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="MASK_FILE">/etc/passwd</MDI></Metadata>'
            '<PAMRasterBand band="1"><NoDataValue>3000</NoDataValue></PAMRasterBand></PAMDataset>'
        )
    given = {"sentinel2": "in", "assets": S2_ASSETS}
    for ending, method in (("tar", 0), ("zip", zipfile.ZIP_STORED), ("zip", zipfile.ZIP_DEFLATED)):
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        packed(tmp_path / "made" / L2A, tmp_path / "in" / f"{L2A}.{ending}", top=f"{L2A}.SAFE", method=method)
        night(given, f"out-{ending}{method}")
        mask = read_mask(tmp_path / f"out-{ending}{method}", L2A)
        np.testing.assert_array_equal(mask, spectral_mask(whole, 10_000))


def test_products_of_two_generations_in_a_bucket_are_done_alike(
    tmp_path: Path, night, bucket: str, write_job: JobWriter, command: Command
) -> None:
    """Each satellite numbers its bands in its own way; what it says of clouds is in a bucket too."""
    whole = reflectance(70, 90)
    raw = np.round((whole / 10_000 + 0.2) / 2.75e-5).astype(np.uint16)
    flags = np.random.default_rng(4).integers(0, 64, (70, 90), dtype=np.uint16)
    for product, numbers in ((OLI, NUMBERS), (TM, (3, 2, 1, 4))):
        bands = {f"SR_B{number}": band for number, band in zip(numbers, raw, strict=True)}
        folder = landsat(tmp_path / "made" / product, product, bands | {"QA_PIXEL": flags})
        for path in folder.iterdir():
            put(f"{bucket}/archive/{product}/{path.name}", path.read_bytes())
    put(f"{bucket}/archive/{OLI.replace('038', '039')}.tar", b"an archive")
    given = {"landsat": f"{bucket}/archive/", "assets": ASSETS, "mask": ["clouds", "shadows"]}
    night(given, "out", code=3)
    night(given | {"landsat": "made"}, "local")
    unmarked = (flags & 0b11000) == 0
    expected = spectral_mask(raw * 2.75e-5 - 0.2, 1, unmarked)
    for product in (OLI, TM):
        mask = read_mask(tmp_path / "out", product)
        np.testing.assert_array_equal(mask, read_mask(tmp_path / "local", product))
        np.testing.assert_array_equal(mask == 255, ~unmarked)
        assert (mask == expected).mean() > 0.999  # both sum the same fractions in other orders
    (refused,) = [error for error in errors_of(tmp_path / "out").values() if error]
    assert refused.startswith("is an archive in a bucket")
    plan = command("plan", write_job(inputs=given | {"landsat": "made"}, scale="metadata", output="other"))
    assert "masked   clouds, shadows: no data there" in plan.stdout


METADATA = SHARED / "sentinel2-metadata"


@pytest.mark.skipif(not METADATA.is_dir(), reason="no real metadata: set BATCHSEG_DATA")
def test_pixels_around_real_metadata_become_the_reflectance_that_these_say(tmp_path: Path, night) -> None:
    whole = reflectance(40, 60)
    for folder in (path for path in METADATA.iterdir() if path.is_dir()):
        (real,) = folder.glob("*.xml")
        after = "ADD_OFFSET" in real.read_text()  # since baseline 04.00, 1000 was added to what is stored
        files = S2_FILES if "MSIL2A" in folder.name else [name[:3] for name in S2_FILES]
        pixels = (whole + 1000 * after).astype(np.uint16)
        root = sentinel2(
            tmp_path / "in" / folder.name, dict(zip(files, pixels, strict=True)), metadata="x.xml"
        )
        (root / "x.xml").unlink()
        shutil.copyfile(real, root / real.name)
    done = night({"sentinel2": "in", "assets": S2_ASSETS}, "out")
    assert len(done) == 12
    expected = spectral_mask(whole, 10_000)
    for name in done:
        np.testing.assert_array_equal(read_mask(tmp_path / "out", name.removesuffix(".tif")), expected)
