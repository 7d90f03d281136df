import pickle
from pathlib import Path

import pytest
import yaml

import batchseg
from batchseg.errors import ConfigError, ModelError
from batchseg.job.file import load_job

KEYS = {"inputs": "in/*.tif", "model": "model", "output": "out", "halo": 8, "scale": {"divide": 10000}}


def test_a_job_is_what_its_file_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(yaml.safe_dump(KEYS))
    job = batchseg.Job(**KEYS)
    assert (job.inputs[0][1], job.output) == (str(tmp_path / "in" / "*.tif"), str(tmp_path / "out"))
    read, config = batchseg.load_job("job.yaml"), load_job(Path("job.yaml"))
    for name in config.__dataclass_fields__:
        if name != "path":
            assert getattr(job, name) == getattr(read, name) == getattr(config, name), name
    assert (job.path, read.path) == ("the job", "job.yaml")


def test_paths_and_tuples_are_taken(tmp_path: Path) -> None:
    job = batchseg.Job(
        inputs={"north": tmp_path / "n", "south": tmp_path / "s"},
        model={"path": tmp_path / "model"},
        output=tmp_path / "out",
        bands=(3, 2, 1),
    )
    assert job.inputs == (("north", f"{tmp_path}/n"), ("south", f"{tmp_path}/s"))
    assert (job.model.path, job.bands) == (str(tmp_path / "model"), (3, 2, 1))


def test_keys_replace_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(KEYS))
    job = batchseg.load_job(path, overrides=["halo=16", "scale.divide=255"], halo=32, output=Path("other"))
    assert (job.halo, job.scale.high) == (32, (255.0,))
    assert job.output == str(tmp_path / "other"), "relative to the file's folder"
    there = batchseg.load_job(path, overrides=["output=other"]).output
    assert there == str(Path.cwd() / "other"), "relative to the current folder, as paths on command lines"


def test_what_is_wrong_is_said_of_the_job() -> None:
    with pytest.raises(ConfigError, match=r"^the job: tilesize: unknown key\. Perhaps you meant 'tile_size'"):
        batchseg.Job(**KEYS, tilesize=3)
    assert batchseg.Job(**(KEYS | {"inputs": "${HOME}/*.tif"})).inputs[0][1].endswith("/${HOME}/*.tif")


def test_a_job_is_frozen_and_travels() -> None:
    job = batchseg.Job(**KEYS)
    with pytest.raises(AttributeError):
        job.halo = 9  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(job)) == job
    assert batchseg.Job(**KEYS) == job != batchseg.Job(**(KEYS | {"halo": 9}))


def test_a_jobs_secrets_are_not_shown() -> None:
    job = batchseg.Job(**KEYS, storage={"s3": {"key": "AKIAEXAMPLE", "secret": "wJalrXUtnFEMI"}})
    assert "wJalrXUtnFEMI" not in repr(job)
    assert repr(job).startswith("Job(inputs='")


@pytest.mark.parametrize(
    "changes", [{"inputs": ""}, {"inputs": ["in", ""]}, {"inputs": {"a": ""}}, {"output": ""}]
)
def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"the job: {next(iter(changes))}: found an empty path"):
        batchseg.Job(**{**KEYS, **changes})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(KEYS))
    with pytest.raises(ConfigError, match="found an empty path"):
        batchseg.load_job(tmp_path / "job.yaml", **changes)


def test_what_is_refused_is_said_in_words_that_act_on_no_terminal(tmp_path: Path) -> None:
    for refused in (
        lambda: batchseg.load_job(tmp_path / "a\x1b[2J\n.yaml"),
        lambda: batchseg.Job(**KEYS | {"output": "~nobody\x1b[2J\n/out"}),
        lambda: batchseg.open(tmp_path / "a\x1b[2J\n").status(),
        lambda: batchseg.open(tmp_path / "a\x1b[2J\n").verify(),
    ):
        with pytest.raises(ConfigError) as caught:
            refused()
        (line,) = caught.value.lines
        assert r"\x1b[2J\n" in line
        assert line.isprintable()


def test_errors_of_the_python_face_name_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchseg.system.redact._variables", {})
    monkeypatch.setenv("WHERE", str(tmp_path / "models"))
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(KEYS | {"model": "${WHERE}/m"}))
    with pytest.raises(ModelError, match=r"model: \$\{WHERE\}/m does not exist"):
        batchseg.plan(batchseg.load_job(path))
