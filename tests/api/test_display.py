import io

import pytest

from batchseg.api import display
from batchseg.api.display import NotebookProgress, PlainProgress, TerminalProgress, progress_on
from batchseg.driver.events import Event, PhaseStarted, PlanReady, SceneRefused, ShardsDone, WorkEnded
from batchseg.driver.progress import Sums

DONE = ShardsDone(
    source_id="a.tif",
    shards=1,
    tiles=2,
    skipped=0,
    pixels=1000,
    read_seconds=0,
    predict_seconds=0,
    stitch_seconds=0,
    write_seconds=0,
)
EVENTS: list[Event] = [
    PhaseStarted(text="listing"),
    PlanReady(scenes=2, tiles=4, pixels=2000, skipped=0),
    DONE,
    SceneRefused(source_id="b<.tif", reason="the file is empty", transient=False, tiles=2),
    WorkEnded(),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO) -> str:
    listeners, close = progress_on(stream)
    for event in EVENTS:
        for listener in listeners:
            listener(event)
    close()
    return stream.getvalue()


def test_streams_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "PLAIN_SECONDS", 0.0)
    lines = drawn(io.StringIO()).splitlines()
    assert lines[:2] == ["listing", "2 scenes, 4 tiles, 0.0 Mpx to do"]
    assert lines[2].startswith("2/4 tiles, 0/2 scenes, ")
    assert len(lines) == 3, "refusals are listed at the end of a run"


def test_a_stream_that_fails_changes_nothing() -> None:
    stream = io.StringIO()
    stream.write = lambda text: (_ for _ in ()).throw(OSError("full"))  # type: ignore[method-assign]
    assert drawn(stream) == ""


def test_terminals_get_a_bar_and_refusals_above_it() -> None:
    text = drawn(Terminal())
    assert "segmenting" in text
    assert "quarantined: b<.tif: the file is empty" in text


def test_who_draws_where() -> None:
    for stream, kind in ((Terminal(), TerminalProgress), (io.StringIO(), PlainProgress)):
        listeners, close = progress_on(stream)
        close()
        assert isinstance(listeners[1], kind)


def test_a_notebooks_bar_is_html_and_text() -> None:
    pytest.importorskip("IPython")
    sums = Sums()
    bar = NotebookProgress.__new__(NotebookProgress)
    bar._sums, bar._phase, bar._refused, bar._drawn = sums, "starting", [], float("inf")
    for event in EVENTS[:-1]:
        sums(event)
        bar(event)
    shown = bar._repr_mimebundle_()
    assert '<progress value="2" max="2"' in shown["text/html"]
    assert "b&lt;.tif: the file is empty" in shown["text/html"]
    assert shown["text/plain"].startswith("segmenting: 2/2 tiles, 1/2 scenes, ")
