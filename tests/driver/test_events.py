"""Events are values: nobody who hears of one can change it for the next listener."""

import dataclasses
from typing import get_args

import pytest

from batchseg.driver.events import Event, Note, PlanReady


@pytest.mark.parametrize("kind", get_args(Event))
def test_an_event_is_frozen_and_its_fields_have_names(kind):
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_a_note_cannot_be_changed():
    note = Note(text="all is well")
    with pytest.raises(dataclasses.FrozenInstanceError):
        note.text = "it is not"


def test_a_plan_of_scenes_says_nothing_of_photographs():
    assert not PlanReady(scenes=1, tiles=2, pixels=3, skipped=0).images
