"""What every run says and remembers, whatever it is over."""

from types import SimpleNamespace

from factories import make_config, make_product, make_recipe

from batchseg.driver.context import JobContext
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
    context.note_left_out((), gone=0, young=0)
    assert told == []
    context.note_left_out(("left out: 1 file",), gone=3, young=1)
    assert [note.text.split(" ")[0] for note in told] == ["left", "3", "1"]
    assert f"batchseg prune {tmp_path}" in told[1].text


def test_an_output_remembers_how_it_is_made_and_is_not_written_again(tmp_path):
    context, recipe, product = context_of(tmp_path, []), make_recipe(), make_product()
    made = {"roots": {}, "choice": CHOICE}
    context.remember(recipe, product, **made, vanished=("old.tif",), before=None)
    state = load_state(str(tmp_path))
    assert (state.pixel, state.classes, state.vanished) == (
        recipe.settings(),
        product.class_names,
        ("old.tif",),
    )
    context.remember(recipe, product, **made, vanished=("old.tif",), before=state)
    assert len(context.lock.guarded) == 1
    context.remember(recipe, product, **made, vanished=(), before=state)
    assert load_state(str(tmp_path)).vanished == ()
