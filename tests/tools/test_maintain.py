"""retry, prune and verify on outputs of real runs, on a disk and in a bucket."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Command, JobMaker, JobWriter, reflectance, write_raster
from outputs import EVERYWHERE, check, items
from photo_runs import photograph, save
from runs import run

from batchseg.errors import ConfigError, LockedError
from batchseg.output.ledger import Ledger
from batchseg.output.lock import hold
from batchseg.system.file_info import file_info
from batchseg.system.location import join
from batchseg.tools.maintain import prune, retry
from batchseg.tools.status import read_status


def test_retry_lets_the_next_run_try_a_quarantined_source(job_and_output: tuple[Path, str]) -> None:
    job, output = job_and_output
    assert run(job).tally.quarantined == 1
    assert run(job).tally.quarantined == 0
    with pytest.raises(ConfigError, match=r"a\.tif is not quarantined"):
        retry(output, "run", ["a.tif"])
    assert retry(output, "run", []) == ("b.tif",)
    assert retry(output, "run", []) == ()
    report = run(job)
    assert (report.tally.quarantined, report.tally.predicted) == (1, 0)


@EVERYWHERE
def test_prune_removes_what_the_last_run_did_not_find(
    tmp_path: Path, job_and_output: tuple[Path, str]
) -> None:
    job, output = job_and_output
    run(job)
    (tmp_path / "in" / "c.tif").unlink()
    report = run(job)
    assert report.vanished == ("c.tif",)
    rows = {row["source_id"]: row["gone"] for row in items(output)}
    assert rows == {"a.tif": False, "b.tif": False, "c.tif": True}
    assert check(output).problems == ()

    assert read_status(output).gone == ("c.tif",)
    assert prune(output, "run", dry_run=True, everything=False).sources == ("c.tif",)
    assert file_info(join(output, "masks", "c.tif")) is not None
    pruned = prune(output, "run", dry_run=False, everything=False)
    assert (pruned.sources, pruned.files) == (("c.tif",), ("masks/c.tif", "masks/c.tif.aux.xml"))
    assert file_info(join(output, "masks", "c.tif")) is None
    assert {row["source_id"] for row in items(output)} == {"a.tif", "b.tif"}
    assert [record.source_id for record in Ledger(output).sources()] == ["a.tif", "b.tif"]
    assert check(output).problems == ()
    assert prune(output, "run", dry_run=False, everything=False).sources == ()


def test_an_archive_that_vanished_as_a_whole_is_not_pruned_by_mistake(
    tmp_path: Path, write_job: JobWriter
) -> None:
    scene = write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110))
    job, output = write_job(allow_empty=True), str(tmp_path / "out")
    run(job)
    scene.unlink()
    run(job)
    with pytest.raises(ConfigError, match="not mounted"):
        prune(output, "run", dry_run=False, everything=False)
    assert prune(output, "run", dry_run=False, everything=True).sources == ("a.tif",)


def recorded(output: str) -> dict[str, bytes]:
    """The ledger's files."""
    return {path.name: path.read_bytes() for path in (Path(output) / "_batchseg" / "ledger").iterdir()}


def test_what_refuses_or_only_looks_leaves_the_ledger_alone(
    tmp_path: Path, photo_job: JobMaker, command: Command
) -> None:
    for name in "ab":
        save(tmp_path / "in" / f"{name}.png", photograph(ord(name)))
    lines = ["uri,line", "in/a.png,1"]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join([*lines, "in/b.png,1", ""]))
    job, output = photo_job(inputs=str(listed)), str(tmp_path / "out")
    run(job)
    listed.write_text("\n".join([*lines, "in/b.png,1,5", ""]))
    run(job)
    before = recorded(output)
    assert command("prune", output).returncode == 2
    assert command("prune", output, "--dry-run").returncode == 2
    assert command("retry", output, "in/a.png").returncode == 2
    assert command("run", job, "--set", "tile_size=96").returncode == 2
    assert command("export", output, tmp_path / "x.strange").returncode == 2
    assert recorded(output) == before

    listed.write_text("\n".join([*lines, ""]))
    run(job)
    before = recorded(output)
    assert command("prune", output, "--dry-run").returncode == 0
    assert recorded(output) == before


def test_verify_compares_the_items_while_nothing_new_is_recorded(
    tmp_path: Path, photo_job: JobMaker, command: Command
) -> None:
    save(tmp_path / "in" / "a.png", photograph(1, red=1))
    run(photo_job())
    output = tmp_path / "out"
    Ledger(str(output)).claim("killed")
    assert command("verify", output).returncode == 0
    table = pq.read_table(output / "items" / "items.parquet")
    at = table.schema.get_field_index("verdict")
    pq.write_table(table.set_column(at, "verdict", pa.array(["PASS"])), output / "items" / "items.parquet")
    said = command("verify", output)
    assert said.returncode == 3
    assert "items.parquet: a.png: its rows are not what the ledger says" in said.stdout


def test_upkeep_waits_for_no_run(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110))
    run(write_job())
    output = str(tmp_path / "out")
    with hold(output, "night"):
        with pytest.raises(LockedError):
            retry(output, "run", [])
        with pytest.raises(LockedError):
            prune(output, "run", dry_run=False, everything=False)
        assert check(output).problems == ()


def test_a_version_that_cannot_be_read_takes_the_old_mask_away(tmp_path: Path, write_job: JobWriter) -> None:
    scene = write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110))
    job, output = write_job(), str(tmp_path / "out")
    run(job)
    scene.write_bytes(b"II*\0 overwritten")
    assert run(job).tally.quarantined == 1
    assert not (tmp_path / "out" / "masks" / "a.tif").exists()
    assert check(output).problems == ()
    assert check(output).unrecorded == ()
