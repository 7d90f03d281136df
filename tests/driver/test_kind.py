"""Scenes or photographs, and what a job over either gives."""

from factories import make_config, make_photographs

from batchseg.driver.kind import PhotoKind, SceneKind, kind_of


def test_a_job_that_says_how_photographs_fit_is_over_photographs():
    assert isinstance(kind_of(make_config()), SceneKind)
    assert isinstance(kind_of(make_config(photographs=make_photographs())), PhotoKind)
