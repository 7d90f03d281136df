"""Headers whose reader dies or gives no answer."""

import threading
from types import SimpleNamespace

import pytest
from children_fakes import FakeChild
from factories import make_recipe, make_scene, make_source

from batchseg.driver.executors.processes import headers
from batchseg.driver.executors.processes.headers import HEADERS_PER_BATCH, HeaderReader
from batchseg.driver.executors.processes.predictor import BATCHES_OF_HEADERS
from batchseg.errors import SourceError, StoppedError
from batchseg.inputs.source import Refusal


class Reader(FakeChild):
    """Answers at once, unless a source's name says otherwise."""

    def ask(self, what, *given):
        future = super().ask(what, *given)
        names = [getattr(one, "source_id", "") for one in given[0]]
        if any("crash" in name for name in names):
            self.die()
        elif not any("hang" in name for name in names):
            future.set_result([answer_of(source) for source in given[0]])
        return future


def answer_of(source):
    if "bad" in source.source_id:
        return Refusal.of(source, SourceError("refused"))
    return make_scene(9, 9, source=source)


@pytest.fixture
def made():
    return []


@pytest.fixture
def reader(made, monkeypatch):
    def new():
        made.append(Reader())
        return SimpleNamespace(child=made[-1])

    monkeypatch.setattr(headers, "read_headers_alone", lambda sources, _: [("alone", s) for s in sources])
    monkeypatch.setattr(headers, "sample_alone", lambda scenes, recipe: "alone")
    return HeaderReader(SimpleNamespace(reader=new), 0.3, threading.Event())


def sources(count, **odd):
    names = {number: name for name, number in odd.items()}
    return [make_source(f"{names.get(number, number)}.tif") for number in range(count)]


def alone(answers):
    return [answer[1].source_id for answer in answers if isinstance(answer, tuple)]


def test_headers_come_by_the_batch_and_refusals_are_looked_at_again(reader, made):
    answers = list(reader.read(sources(2 * HEADERS_PER_BATCH + 1, bad=70)))
    assert (len(made), len(answers)) == (3, 2 * HEADERS_PER_BATCH + 1)
    assert alone(answers) == ["bad.tif"]


def test_sources_are_taken_as_they_can_be_read(reader):
    taken = []
    answers = reader.read(taken.append(source) or source for source in sources(10 * HEADERS_PER_BATCH))
    next(answers)
    assert len(taken) <= (BATCHES_OF_HEADERS + 1) * HEADERS_PER_BATCH
    assert 1 + len(list(answers)) == len(taken) == 10 * HEADERS_PER_BATCH


@pytest.mark.parametrize("how", ["crash", "hang"])
def test_a_batch_whose_reader_dies_or_hangs_is_looked_at_one_by_one(reader, made, how):
    answers = list(reader.read(sources(2 * HEADERS_PER_BATCH, **{how: 3})))
    assert len(answers) == 2 * HEADERS_PER_BATCH
    assert len(alone(answers)) == HEADERS_PER_BATCH
    assert made[0].ended is not None
    assert made[1].ended is None


def test_samples_are_read_alone_where_they_end_their_reader_and_left_out_where_they_hang(reader, made):
    scenes = [SimpleNamespace(source_id=how) for how in ("crash", "hang")]
    assert reader.samples(scenes[:1], make_recipe()) == "alone"
    assert reader.samples(scenes[1:], make_recipe()) == []
    assert made[1].is_given_up


def test_a_run_that_closes_waits_for_none(reader):
    reader._closing.set()
    with pytest.raises(StoppedError, match="while headers were read"):
        list(reader.read(sources(1, hang=0)))
