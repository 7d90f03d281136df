"""What every run says and remembers, whatever it is over."""

import dataclasses
from types import SimpleNamespace

from factories import make_config, make_product, make_recipe

from batchseg.driver.context import JobContext
from batchseg.driver.gone import Gone
from batchseg.driver.prepare import Prepared
from batchseg.driver.progress import Sums
from batchseg.output.state import load_state
from batchseg.predict.engine_choice import Choice

CHOICE = Choice(engine="paddle", precision="fp32", device="cpu", baked=False, asked={})


def context_of(folder, told):
    guarded = []
    lock = SimpleNamespace(guard=lambda: guarded.append(None), guarded=guarded)
    config = make_config(output=str(folder), min_age=3600.0)
    return JobContext(
        config=config,
        run_id="run",
        lock=lock,
        sums=Sums(),
        emit=told.append,
        stop=lambda: None,
        log="log.txt",
    )


def test_sources_that_are_left_out_are_told_of(tmp_path):
    told = []
    context = context_of(tmp_path, told)
    context.note_left_out(Gone(), young=0)
    assert told == []
    context.note_left_out(Gone(ids=("a", "b", "c"), left_out=("left out: 1 file",)), young=1)
    assert [note.text.split(" ")[0] for note in told] == ["left", "3", "1"]
    assert f"batchseg prune {tmp_path}" in told[1].text


def test_an_output_remembers_how_it_is_made_and_is_not_written_again(tmp_path):
    context, recipe, product = context_of(tmp_path, []), make_recipe(), make_product()
    made = Prepared(
        state=None,
        roots={},
        listing=None,
        ledger=None,
        recipe=recipe,
        product=product,
        choice=CHOICE,
        triaged=None,
        gone=Gone(ids=("old.tif",)),
        usual=(),
    )
    context.remember(None, made.new_state)
    state = load_state(str(tmp_path))
    assert (state.pixel, state.classes, state.vanished) == (
        recipe.settings(),
        product.class_names,
        ("old.tif",),
    )
    context.remember(state, made.new_state)
    assert len(context.lock.guarded) == 1
    context.remember(state, dataclasses.replace(made, gone=Gone()).new_state)
    assert load_state(str(tmp_path)).vanished == ()
