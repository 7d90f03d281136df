import dataclasses

import pytest
from factories import make_recipe

from batchseg.driver import threshold as module
from batchseg.driver.threshold import with_threshold
from batchseg.job.settings import Values
from batchseg.output.state import OutputState
from batchseg.predict.choice import Choice
from batchseg.predict.trial import Occasion

CHOICE = Choice(engine="onnxruntime", precision="fp32", device="cpu", baked=False, asked={})
OCCASION = Occasion(sources=(), count=0, workers=1)


def recipe_of(**values):
    recipe = make_recipe()
    facts = dataclasses.replace(recipe.facts, output="values", class_count=None)
    return dataclasses.replace(recipe, facts=facts, bake=None, values=Values(**values))


MEASURED = recipe_of(percentile=99.0, good="/good")


def state_of(recipe):
    return OutputState(pixel=recipe.settings(), device="cpu", facts=recipe.facts, roots={})


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def measure(config, recipe, values, *, workers, say):
        calls.append(values)
        return 0.5, "threshold 0.5"

    monkeypatch.setattr(module, "measured_threshold", measure)
    return calls


def settled(recipe, state=None, occasion=OCCASION, choice=CHOICE):
    said = []
    found, choice = with_threshold(None, recipe, choice, state, occasion, stop=lambda: None, say=said.append)
    return found.values and found.values.threshold, choice, said


def test_good_images_are_measured_once(asked):
    threshold, choice, said = settled(MEASURED)
    assert (threshold, said, len(asked)) == (0.5, ["threshold 0.5"], 1)
    assert choice.notes == ("threshold 0.5",)
    done = dataclasses.replace(MEASURED, values=dataclasses.replace(MEASURED.values, threshold=0.5))
    assert settled(MEASURED, state_of(done))[0] == 0.5
    assert len(asked) == 1


def test_a_plan_measures_nothing(asked):
    threshold, choice, said = settled(MEASURED, occasion=dataclasses.replace(OCCASION, tries=False))
    assert (threshold, choice, asked) == (None, None, [])
    assert said == ["the first run measures the threshold on the images of /good"]


def test_another_question_is_left_to_the_pixel_settings(asked):
    other = recipe_of(percentile=50.0, good="/good", threshold=0.25)
    assert settled(MEASURED, state_of(other))[0] is None
    assert asked == []


@pytest.mark.parametrize("recipe", [make_recipe(), recipe_of(), recipe_of(threshold=3.0)])
def test_where_nothing_is_to_be_measured_nothing_is(asked, recipe):
    assert settled(recipe) == (recipe.values and recipe.values.threshold, CHOICE, [])
    assert asked == []
