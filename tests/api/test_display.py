import io
import re

import pytest
from hypothesis import given, settings
from names import NAMES, acts

from batchseg.api import display
from batchseg.api.display import NotebookProgress, PlainProgress, TerminalProgress, progress_on
from batchseg.driver.events import Event, Note, PhaseStarted, PlanReady, SceneRefused, ShardsDone, WorkEnded
from batchseg.driver.progress import Sums
from batchseg.system.escape import escaped

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


@pytest.fixture(autouse=True)
def no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs the tests."""
    for name in ("JPY_PARENT_PID", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO, events: list[Event] = EVENTS) -> str:
    listeners, close = progress_on(stream)
    for event in events:
        for listener in listeners:
            listener(event)
    close()
    return stream.getvalue()


def test_streams_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "PLAIN_SECONDS", 0.0)
    lines = drawn(io.StringIO()).splitlines()
    assert lines[:2] == ["listing", "2 scenes, 4 tiles, 2,000 px to do"]
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


def refused(name: str) -> list[Event]:
    """Events that name a source: a refusal, and a note as damage is said."""
    reason = f"cannot read s3://key:SEC/RET@bucket/{name}"
    return [
        PhaseStarted(text=f"[bold]{name}"),
        PlanReady(scenes=2, tiles=4, pixels=2000, skipped=0),
        SceneRefused(source_id=f"[red]:warning:{name}", reason=reason, transient=False, tiles=2),
        Note(text=f"{name}: damaged"),
        WorkEnded(),
    ]


def without_time(text: str) -> str:
    """Of a terminal's drawing: rates and clocks differ."""
    return re.sub(r"[\d:.]+", "", text)


@given(NAMES)
@settings(max_examples=30, deadline=None)
def test_a_name_acts_on_no_terminal_and_the_bar_stays(name: str) -> None:
    text = drawn(Terminal(), refused(name))
    refusal = f"quarantined: [red]:warning:{escaped(name)}: cannot read s3://***@bucket/{escaped(name)}\n"
    assert refusal in text
    assert f"{escaped(name)}: damaged\n" in text
    assert "\x1b[?25l" in text, "the cursor is hidden while the bar is drawn"
    assert without_time(text.replace(escaped(name), "")).count("\n") == without_time(
        drawn(Terminal(), refused("x"))
    ).count("\n")
    own = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", text)  # rich's own sequences
    assert not any(map(acts, own.split("\n")))


@given(NAMES)
def test_a_name_is_one_line_in_a_log_and_in_a_notebook(name: str) -> None:
    lines = drawn(io.StringIO(), refused(name)).split("\n")
    assert len(lines) == 4
    assert not any(map(acts, lines))
    progress = NotebookProgress.__new__(NotebookProgress)
    progress._sums, progress._phase, progress._refused = Sums(), name, [name, f"<{name}>"]
    shown = progress._repr_mimebundle_()
    assert len(shown["text/plain"].split("\n")) == 3
    assert shown["text/html"].count("<br>") == 2
    assert not any(map(acts, (*shown["text/plain"].split("\n"), shown["text/html"])))


def test_a_stream_of_few_letters_gets_codes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    listeners, close = progress_on(stream)
    listeners[1](Note(text="gr\xfc\xdfe.tif"))
    close()
    assert stream.buffer.getvalue() == b"gr\\xfc\\xdfe.tif\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("JPY_PARENT_PID", "7"), ("MPLBACKEND", "module://matplotlib_inline.backend_inline")],
)
def test_a_notebooks_cell_gets_lines_without_escape_codes(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """`!batchseg run job.yaml` is given a terminal."""
    monkeypatch.setenv(name, value)
    assert "\x1b" not in drawn(Terminal())
    assert "listing" in drawn(Terminal())
