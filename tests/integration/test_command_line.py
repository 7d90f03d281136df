"""The console script as its users meet it: exit codes, messages, silence."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import (
    BATCHSEG,
    Command,
    JobWriter,
    batchseg,
    read_mask,
    reflectance,
    spectral_mask,
    write_raster,
)
from factories import Photo, make_photo_output
from killing import faults, processes, wait_for
from names import SEQUENCES, acts

from batchseg.cli.main import main
from batchseg.output.lock import STALE_SECONDS

INLINE = ("--executor", "inline")


def scenes(tmp_path: Path, *names: str) -> None:
    for number, name in enumerate(names):
        write_raster(tmp_path / "in" / name, reflectance(90, 130, seed=number))


@pytest.mark.slow
def test_quiet_is_silent_on_ray_and_its_chatter_is_in_a_file(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    job = write_job(workers=2)
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as temporary:  # short enough for Ray's sockets
        done = batchseg("run", job, "--quiet", env={**os.environ, "TMPDIR": temporary})
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert list(Path(temporary).iterdir()) == []
    (log,) = (tmp_path / "out" / "_batchseg" / "runs").glob("*/log.txt")
    run_id = log.parent.name
    assert all(run_id in line for line in log.read_text().splitlines())


def test_a_run_says_what_it_does_and_where_the_results_are(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "a.tif")
    done = batchseg("run", write_job(), *INLINE)
    assert done.returncode == 0
    assert "1 scene, 6 tiles" in done.stderr
    assert "predictors: " in done.stdout
    assert str(tmp_path / "out" / "masks") in done.stdout
    again = command("run", write_job(), *INLINE)
    assert again.returncode == 0
    assert "nothing to do: 1 source is done" in again.stderr


def test_bad_sources_are_quarantined_once_and_the_good_ones_are_done(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "a.tif", "z.tif")
    (tmp_path / "in" / "empty.tif").touch()
    (tmp_path / "in" / "text.tif").write_text("<html>503</html>")
    whole = write_raster(tmp_path / "cut.tif", reflectance(300, 400)).read_bytes()
    (tmp_path / "in" / "cut.tif").write_bytes(whole[: len(whole) // 2])
    write_raster(tmp_path / "in" / "rgb.tif", reflectance(50, 60)[:3])
    write_raster(tmp_path / "in" / "byte.tif", np.zeros((4, 50, 60), dtype=np.uint8))
    os.mkfifo(tmp_path / "in" / "fifo.tif")
    done = command("run", write_job(), *INLINE)
    assert done.returncode == 3, done.stderr
    for name, reason in {
        "empty.tif": "the file is empty",
        "text.tif": "no raster",
        "cut.tif": "damaged",
        "rgb.tif": "has 3 bands, the job asks for band 4",
        "byte.tif": "has uint8 pixels (0..255), scale reaches 0..10000",
    }.items():
        assert any(name in line and reason in line for line in done.stdout.splitlines()), name
    assert (tmp_path / "out" / "masks" / "a.tif").exists()
    assert (tmp_path / "out" / "masks" / "z.tif").exists()

    assert command("run", write_job(), *INLINE).returncode == 0
    status = json.loads(command("status", tmp_path / "out", "--json").stdout)
    assert status["done"] == 2
    assert {r["source_id"] for r in status["refused"]} == {
        "empty.tif",
        "text.tif",
        "cut.tif",
        "rgb.tif",
        "byte.tif",
    }

    write_raster(tmp_path / "in" / "empty.tif", reflectance(50, 60))
    assert command("run", write_job(), *INLINE).returncode == 0
    assert (tmp_path / "out" / "masks" / "empty.tif").exists()


@pytest.mark.slow
def test_a_file_that_ends_its_readers_process_is_quarantined(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif", "poison.tif", "z.tif")
    no_home = {**faults(tmp_path, abort="poison"), "HOME": "/nonexistent"}
    done = batchseg("run", write_job(workers=2), env=no_home)
    assert done.returncode == 3, done.stderr
    assert not Path("/nonexistent").exists(), "Ray keeps a token in the home folder, unless it is given one"
    assert "poison.tif: the process that read it was ended by SIGABRT" in done.stdout
    for number, name in ((0, "a.tif"), (2, "z.tif")):
        expected = spectral_mask(reflectance(90, 130, seed=number), 10_000)
        np.testing.assert_array_equal(read_mask(tmp_path / "out", name), expected)


@pytest.mark.slow
def test_a_file_whose_reading_never_ends_is_quarantined(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif", "stuck.tif", "z.tif")
    job = write_job(workers=2, lease_timeout=5)
    environment = faults(tmp_path, hang="stuck")
    done = batchseg("run", job, env=environment)
    assert done.returncode == 3, done.stderr
    assert "stuck.tif" in done.stdout
    assert (tmp_path / "out" / "masks" / "a.tif").exists()
    assert (tmp_path / "out" / "masks" / "z.tif").exists()


WRONG = {
    "unknown key": ({"tilesize": 3}, [], 2, ["tilesize", "unknown key", "Perhaps you meant 'tile_size'?"]),
    "wrong type": ({"tile_size": "big"}, [], 2, ["tile_size", "'big'"]),
    "halo": (
        {"halo": 40},
        [],
        2,
        ["halo 40 leaves no core in tile_size 64", "Set tile_size: "],
    ),
    "no model": ({"model": "nowhere"}, [], 4, ["nowhere", "does not exist"]),
    "band out of range": ({"bands": [1, 2, 3, 9]}, [], 2, ["in/scene.tif"[3:], "has 4 bands", "band 9"]),
    "too few bands": ({"bands": [1, 2, 3]}, [], 4, ["takes 4 channels", "`bands` names 3"]),
    "dtype": (
        {"scale": "transforms", "normalize": {"mean": [0.5], "std": [0.5]}},
        [],
        2,
        ["uint16", "divide: 10000"],
    ),
    "matches nothing": ({"inputs": "in/*.jp2"}, [], 2, ["in/*.jp2 matches no raster", "allow_empty"]),
    "output below a file": ({"output": "job.yaml/out"}, [], 2, ["job.yaml", "output"]),
    "bad --set": ({}, ["--set", "halo"], 2, ["--set wants key=value"]),
    "variable": ({"output": "${NO_SUCH_VARIABLE}"}, [], 2, ["NO_SUCH_VARIABLE"]),
    "no confidence in ids": ({}, ["--set", "confidence=true"], 4, ["argmax baked in"]),
    "deadline": ({"deadline": "tomorrow"}, [], 2, ["deadline 'tomorrow'", "06:00"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_configurations_get_one_message(
    tmp_path: Path, write_job: JobWriter, models: Path, name: str, command: Command
) -> None:
    keys, words, code, texts = WRONG[name]
    write_raster(tmp_path / "in" / "scene.tif", reflectance(50, 60))
    if name == "no confidence in ids":
        write_raster(tmp_path / "in" / "scene.tif", reflectance(50, 60)[:1])
        keys = {"model": str(models / "ids"), "bands": [1], "classes": None}
    done = command("run", write_job(**keys), *INLINE, *words)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    message = done.stderr
    assert "Traceback" not in message
    for text in texts:
        assert text in message
    assert sum(line.startswith("batchseg: ") for line in message.splitlines()) == 1


def test_models_that_are_none(tmp_path: Path, write_job: JobWriter, models: Path, command: Command) -> None:
    scenes(tmp_path, "a.tif")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "model.json").write_bytes((models / "conv" / "model.json").read_bytes())
    (cut / "model.pdiparams").write_bytes((models / "conv" / "model.pdiparams").read_bytes()[:100])
    for folder in (models / "pooled", cut):
        done = command("run", write_job(model=str(folder), bands=[1, 2, 3], classes=None), *INLINE)
        assert done.returncode == 4, done.stderr
        assert "Traceback" not in done.stderr
        assert "model: " in done.stderr


@pytest.mark.slow
def test_two_runs_at_once_on_one_output(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif")
    job = write_job(shard_tiles=1)
    first = subprocess.Popen(
        [BATCHSEG, "run", str(job), *INLINE],
        env=faults(tmp_path, slow=60),
        stderr=subprocess.DEVNULL,
        stdout=-3,
    )
    try:
        wait_for(lambda: list((tmp_path / "out" / "_batchseg" / "locks").glob("epoch-*")))
        started = time.monotonic()
        second = batchseg("run", job, *INLINE)
        assert time.monotonic() - started < STALE_SECONDS  # it does not wait for the holder to fall silent
        assert second.returncode == 6
        assert f"process {first.pid}" in second.stderr
        assert f"process {first.pid}" in batchseg("status", tmp_path / "out").stdout
    finally:
        first.kill()
        first.wait()
    assert batchseg("run", job, *INLINE).returncode == 0


@pytest.mark.slow
def test_a_deadline_stops_a_run_that_the_same_command_resumes(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif")
    job = write_job(shard_tiles=1)
    stopped = batchseg("run", job, *INLINE, "--deadline", "6s", env=faults(tmp_path, slow=3))
    assert stopped.returncode == 5, stopped.stderr
    assert "stopped at the deadline 6s" in stopped.stderr
    assert batchseg("run", job, *INLINE).returncode == 0
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "a.tif"), spectral_mask(reflectance(90, 130), 10_000)
    )


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        signal.SIGTERM,
    ],
)
def test_signals_stop_an_inline_run(tmp_path: Path, write_job: JobWriter, number: signal.Signals) -> None:
    scenes(tmp_path, "a.tif")
    process = subprocess.Popen(
        [BATCHSEG, "run", str(write_job(shard_tiles=1)), *INLINE],
        env=faults(tmp_path, slow=1),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((tmp_path / "count").exists)
    process.send_signal(number)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 5
    assert f"stopped by {number.name}" in message


@pytest.mark.parametrize("words", [("plan",), pytest.param(("model", "bench"), marks=pytest.mark.slow)])
def test_a_terminals_interrupt_of_what_changes_nothing_is_one_line(
    tmp_path: Path, write_job: JobWriter, words: tuple[str, ...]
) -> None:
    scenes(tmp_path, "a.tif")
    process = subprocess.Popen(
        [BATCHSEG, *words, str(write_job())], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("checking the model")
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 5
    assert message.splitlines()[-1] == "batchseg: interrupted; nothing was changed"
    assert "Traceback" not in message


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_blames_no_source(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif")
    job = write_job()

    def no_file_above_a_kilobyte() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    stopped = batchseg("run", job, *INLINE, preexec_fn=no_file_above_a_kilobyte)
    assert stopped.returncode == 5, stopped.stderr
    assert "cannot" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert json.loads(batchseg("status", tmp_path / "out", "--json").stdout)["refused"] == []
    assert batchseg("run", job, *INLINE).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "processes", "ray"])
def test_damaged_content_ends_no_run_however_much_there_is(
    tmp_path: Path, write_job: JobWriter, executor: str
) -> None:
    scenes(tmp_path, "a.tif", "z.tif")
    whole = write_raster(tmp_path / "whole.tif", reflectance(300, 400), compress="lzw").read_bytes()
    broken = bytearray(whole)
    broken[3000:60000] = b"\xff" * 57000
    for number in range(5):
        (tmp_path / "in" / f"b{number}.tif").write_bytes(broken)
    finished = batchseg("run", write_job(stop_after=2, workers=1), "--executor", executor)
    assert finished.returncode == 3, finished.stderr
    status = json.loads(batchseg("status", tmp_path / "out", "--json").stdout)
    assert (status["done"], len(status["refused"])) == (2, 5)


def test_a_deadline_has_the_exit_code_that_it_is_given(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "a.tif")
    stopped = command("run", write_job(), *INLINE, "--deadline", "0s", "--deadline-exit-code", "75")
    assert stopped.returncode == 75, stopped.stderr
    assert "stopped at the deadline 0s" in stopped.stderr
    refused = command("run", write_job(), *INLINE, "--deadline-exit-code", "256")
    assert (refused.returncode, "invalid" in refused.stderr) == (2, True)


def test_plan_shows_everything_and_writes_nothing(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    (tmp_path / "in" / "empty.tif").touch()
    shown = command("plan", write_job(workers=2))
    assert shown.returncode == 0, shown.stderr
    for text in (
        "2 to do",
        "12 of 64 pixels, halo 8",
        "logits out (4 classes)",
        "empty.tif: the file is empty",
    ):
        assert text in shown.stdout
    assert not (tmp_path / "out").exists()
    assert command("plan", write_job(halo=99)).returncode == 2


def test_status_of_a_folder_without_results(tmp_path: Path, command: Command) -> None:
    done = command("status", tmp_path)
    assert done.returncode == 2
    assert "holds no results" in done.stderr


def test_help_documents_the_exit_codes(command: Command) -> None:
    text = command("run", "--help").stdout
    for code in range(7):
        assert f"\n  {code}  " in text


def test_a_lock_file_left_by_a_dead_run_does_not_block(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "a.tif")
    lock = tmp_path / "out" / "_batchseg" / "locks" / "epoch-00000003.json"
    lock.parent.mkdir(parents=True)
    held_by = "run 20260101-000000-abcdef, process 1 on elsewhere, since long ago"
    lock.write_text(json.dumps({"token": "x", "holder": held_by, "released": False}))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert command("run", write_job(), *INLINE).returncode == 6
    assert command("run", write_job(), *INLINE).returncode == 0


def test_six_lines_are_a_job_file(tmp_path: Path, models: Path, command: Command) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 130), dtype=np.uint8)
    write_raster(tmp_path / "archive" / "2026" / "x" / "a.tif", pixels)
    job = tmp_path / "job.yaml"
    job.write_text(
        yaml.safe_dump(
            {
                "inputs": "archive/2026/**/*.tif",
                "model": str(models / "conv"),
                "output": "results/landcover-2026",
                "bands": [1, 2, 3],
                "tile_size": 512,
                "halo": 64,
            }
        )
    )
    assert command("run", job, *INLINE).returncode == 0
    assert (tmp_path / "results" / "landcover-2026" / "masks" / "x" / "a.tif").exists()


def test_sigterm_before_anything_has_begun_leaves_nothing(tmp_path: Path, write_job: JobWriter) -> None:
    """Python itself may still be starting, and the signal has its usual meaning."""
    scenes(tmp_path, "a.tif")
    environment = faults(tmp_path, slow=3)
    process = subprocess.Popen([BATCHSEG, "run", str(write_job(workers=2))], env=environment, stderr=-3)
    time.sleep(0.5)
    process.terminate()
    process.wait(timeout=120)
    wait_for(lambda: not processes(environment))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 2.0, 4.0, 6.0])
def test_sigterm_while_things_start_is_a_stop_like_any_other(
    tmp_path: Path, write_job: JobWriter, after: float
) -> None:
    scenes(tmp_path, "a.tif")
    environment = faults(tmp_path, slow=3)
    process = subprocess.Popen(
        [BATCHSEG, "run", str(write_job(workers=2))], env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list((tmp_path / "out" / "_batchseg" / "locks").glob("epoch-*")))
    time.sleep(after)
    process.terminate()
    _, message = process.communicate(timeout=120)
    assert process.returncode == 5, message
    assert "stopped by SIGTERM" in message
    assert "Traceback" not in message
    wait_for(lambda: not processes(environment))


def test_closed_and_full_streams_do_not_change_how_a_run_ends(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif")
    job = write_job()
    for words in (">&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"):
        command = f"{BATCHSEG} run {job} --executor inline {words}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_refused_job_leaves_nothing_behind(tmp_path: Path, write_job: JobWriter, command: Command) -> None:
    scenes(tmp_path, "a.tif")
    assert command("run", write_job(bands=[1, 2, 3, 9]), *INLINE).returncode == 2
    assert not (tmp_path / "out").exists()
    inside = command("run", write_job(output="in"), *INLINE)
    assert inside.returncode == 2
    assert "lie inside the output" in inside.stderr
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a.tif"]


def test_more_job_files_that_are_refused_in_words(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "a.tif")
    job = write_job()
    text = job.read_text()
    for wrong, words in (
        (text + "\nhalo: 9\n", "the key 'halo' is given twice"),
        ("a: " + "[" * 5000, "not YAML"),
    ):
        job.write_text(wrong)
        done = command("run", job, *INLINE)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    remote = command("run", write_job(inputs="nosuch://bucket/*.tif"), *INLINE)
    assert remote.returncode == 2, remote.stderr
    assert "cannot list nosuch://bucket" in remote.stderr


def test_verify_names_a_hundred_problems_and_counts_them_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    blot = np.ones((3, 4), np.uint8)
    output = make_photo_output(
        tmp_path / "out", [Photo(source_id=f"{n:03}.png", mask=blot) for n in range(120)]
    )
    for part in (tmp_path / "out" / "annotations" / "crs=none").iterdir():
        pq.write_table(pq.read_table(part).slice(0, 0), part)
    with pytest.raises(SystemExit) as ended:
        main(["verify", output, "--quick"])
    lines = capfd.readouterr().out.splitlines()
    count = int(lines[-1].partition(": ")[2].partition(" problems")[0])
    assert (ended.value.code, len(lines)) == (3, 102)
    assert count >= 120
    assert lines[100].startswith(f"and {count - 100} more: batchseg.open(")


def test_names_of_files_act_on_no_terminal_and_in_no_log(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    scenes(tmp_path, "ok.tif")
    names = [f"{number}{sequence}x.tif" for number, sequence in enumerate(SEQUENCES)]
    for name in (*names, "bytes\udcff\x1b[2J.tif"):
        (tmp_path / "in" / name).write_bytes(b"no raster")
    job, out = write_job(), str(tmp_path / "out")
    said = [command("run", job, *INLINE), command("status", out), command("retry", out)]
    listed = [line for line in said[-1].stdout.split("\n") if line.startswith("  ")]
    assert len(listed) == len(names) + 1
    said += [command("plan", job)]
    recorded = pq.read_table(tmp_path / "out" / "items" / "items.parquet")["source_id"].to_pylist()
    assert set(names) < set(recorded), "tables have the names as they are"
    assert set(names) < {
        s["source_id"] for s in json.loads(command("status", out, "--json").stdout)["refused"]
    }
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    said += [command("run", job, *INLINE, "--set", "allow_empty=true")]
    said += [command("prune", out, "--all", "--dry-run")]
    assert [done.returncode for done in said] == [3, 0, 0, 0, 0, 0]
    logs = [path.read_text() for path in (tmp_path / "out" / "_batchseg" / "runs").glob("*/log.txt")]
    for text in (*(stream for done in said for stream in (done.stdout, done.stderr)), *logs):
        lines = text.split("\n")
        assert not any(map(acts, lines))
        assert not any(line.startswith("batchseg: run 1") for line in lines)


def test_names_mean_the_same_under_every_locale(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "Zürich.tif", "影像.tif")
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = batchseg("run", write_job(), *INLINE, env=ascii_only)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out" / "items" / "items.parquet")
    assert sorted(table["source_id"].to_pylist()) == ["Zürich.tif", "影像.tif"]
