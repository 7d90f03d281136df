"""Scenes or photographs, and what a job over either gives."""

from factories import make_config, make_photographs

from batchseg.driver.kind import PhotoKind, SceneKind, kind_of


def test_a_job_that_says_how_photographs_fit_is_over_photographs():
    assert isinstance(kind_of(make_config()), SceneKind)
    assert isinstance(kind_of(make_config(photographs=make_photographs())), PhotoKind)


def test_engines_are_tried_on_the_jobs_own_sources(tmp_path):
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(b"II*\0")
    config = make_config(inputs=((None, str(tmp_path / "*.tif")),))
    assert [source.source_id for source in kind_of(config).some_sources(config)] == ["a.tif", "b.tif"]
    photos = make_config(inputs=config.inputs, photographs=make_photographs())
    assert {source.source_id for source in kind_of(photos).some_sources(photos)} == {"a.tif", "b.tif"}
