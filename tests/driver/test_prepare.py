"""What a run decides before it plans: which of an output's earlier decisions still hold."""

import dataclasses
from pathlib import Path

import pytest
from conftest import JobWriter, reflectance, write_raster
from factories import make_facts, make_recipe
from runs import run

from batchseg.driver import prepare as prepare_module
from batchseg.driver.prepare import kept_choice
from batchseg.output.state import OutputState
from batchseg.predict.engine_choice import Choice

CHOICE = Choice(engine="paddle", precision="fp32", device="cpu", baked=False, asked={})


def state_of(**changes):
    recipe = make_recipe()
    state = OutputState(
        pixel=recipe.settings(),
        device="cpu",
        facts=make_facts(),
        roots={},
        choice=CHOICE,
        classes=(),
        colors=(),
        vanished=(),
    )
    return dataclasses.replace(state, **changes)


def test_a_choice_of_an_engine_is_kept_for_the_same_model_alone():
    model, state = make_recipe().model, state_of()
    assert kept_choice(model, state) == CHOICE
    assert kept_choice(model, None) is None
    assert kept_choice(dataclasses.replace(model, digest="another"), state) is None


def test_a_second_run_probes_no_model(
    tmp_path: Path, write_job: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    job = write_job()
    run(job)

    def probe(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(prepare_module, "probe_model", probe)
    assert run(job).skipped == 1
    with pytest.raises(AssertionError):
        run(job, "tile_size=48")
