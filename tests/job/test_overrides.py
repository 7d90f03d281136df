from pathlib import Path

import pytest
from factories import write_job

from batchseg.errors import ConfigError
from batchseg.job.file import load_job


@pytest.fixture
def shell(tmp_path: Path, monkeypatch) -> Path:
    """The folder of a shell, which is not the job's."""
    folder = tmp_path / "shell"
    folder.mkdir()
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_paths_are_relative_to_the_folder_of_the_shell(tmp_path, shell):
    job = write_job(tmp_path / "jobs", aoi="county.gpkg")
    assert load_job(job).output.startswith(f"{tmp_path}/jobs/")
    words = [
        "output=night",
        "inputs=[in/*.tif, ../more]",
        "model={path: net, key_file: k}",
        "aoi.file=a.gpkg",
    ]
    said = load_job(job, words)
    assert said.output == f"{shell}/night"
    assert [given for _, given in said.inputs] == [f"{shell}/in/*.tif", f"{tmp_path}/more"]
    assert (said.model.path, said.model.key_file) == (f"{shell}/net", f"{shell}/k")
    assert said.aoi.uri == f"{shell}/a.gpkg"


def test_what_has_a_place_keeps_it(tmp_path, shell, monkeypatch):
    monkeypatch.setenv("WHERE", "/archive")
    monkeypatch.setenv("SUB", "sub")
    job = write_job(tmp_path / "jobs")
    for word, path in (
        ("/in", "/in"),
        ("s3://bucket/in", "s3://bucket/in"),
        ("file:///in", "/in"),
        ("${WHERE}/in", "/archive/in"),
        ("${SUB}/in", f"{shell}/sub/in"),
        ("~/in", f"{Path.home()}/in"),
    ):
        assert load_job(job, [f"inputs={word}"]).inputs[0][1] == path


def test_scenes_of_several_files_and_names_of_inputs(tmp_path, shell):
    job = write_job(tmp_path / "jobs")
    ((_, scenes),) = load_job(job, ["inputs={manifest: a.csv, columns: [red, nir], id: name}"]).inputs
    assert (scenes.path, scenes.columns, scenes.id_column) == (f"{shell}/a.csv", ("red", "nir"), "name")
    ((_, scenes),) = load_job(job, ["inputs.bands={red: '{scene}_r.tif', id: '{scene}_i.tif'}"]).inputs
    assert scenes.patterns == (("red", f"{shell}/{{scene}}_r.tif"), ("id", f"{shell}/{{scene}}_i.tif"))
    ((_, scenes),) = load_job(job, ["inputs.stac=a.json", "inputs.assets=[red]"]).inputs
    assert (scenes.path, scenes.columns) == (f"{shell}/a.json", ("red",))
    ((_, scenes),) = load_job(job, ["inputs={landsat: a, assets: [red]}"]).inputs
    assert (scenes.path, scenes.columns) == (f"{shell}/a", ("red",))
    inputs = load_job(job, ["inputs={landsat: a, north: b}"]).inputs
    assert inputs == (("landsat", f"{shell}/a"), ("north", f"{shell}/b"))
    inputs = load_job(job, ["inputs={id: a, columns: b}", "inputs.north=c"]).inputs
    assert inputs == (("id", f"{shell}/a"), ("columns", f"{shell}/b"), ("north", f"{shell}/c"))


def test_messages_quote_no_variable(tmp_path, shell, monkeypatch):
    monkeypatch.setenv("SECRET", "s3://hidden@bucket")
    with pytest.raises(ConfigError) as caught:
        load_job(write_job(tmp_path / "jobs"), ["model.pth=${SECRET}/x"])
    assert "hidden" not in str(caught.value)
