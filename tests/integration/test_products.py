"""Nights over products as agencies deliver them, real ones where there are some."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import SHARED, Command, JobWriter

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
