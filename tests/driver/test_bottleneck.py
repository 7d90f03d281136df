"""What bounded a run."""

import pytest

from batchseg.driver.bottleneck import Busy, Usage, diagnose, is_badly_tiled
from batchseg.driver.events import GroupDone, PlanReady, SceneDone, Setting, ShardsDone
from batchseg.system.timing import Span, Stint, host_clock

HOST, CLOCK = host_clock()


def usage(bound: str, *, seconds: float = 60.0, scenes: int = 2, tiles: int = 500, **setting) -> Usage:
    return Usage(
        seconds=seconds,
        slots=2,
        scenes=scenes,
        tiles=tiles,
        shares={bound: 0.6, "other": 0.4},
        setting=Setting(**setting),
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (usage("predicting"), "more cores, or a GPU"),
        (usage("predicting", gpu=True), "more GPUs"),
        (usage("predicting", engine_open=True), "faster engine and precision"),
        (usage("predicting", engine_open=True, gpu=True), "fp16"),
        (usage("predicting", engine_open=True, kept=0.25), "75 % of each tile is halo"),
        (usage("predicting", kept=0.25, larger_tile=512), "a larger `tile_size` (512) makes it less"),
        (usage("reading"), "a faster disk for the inputs"),
        (usage("reading", remote=True), "copied near"),
        (usage("reading", remote=True, badly_tiled=0.9), "gdal_translate -of COG"),
        (usage("reading", inline=True), "`executor: auto`"),
        (usage("writing"), "a faster disk for the output"),
        (usage("writing", inline=True), "`executor: auto`"),
        (usage("finishing", inline=True), "`executor: auto`"),
        (usage("ending"), "more scenes"),
        (usage("ending", regions=True), "`min_area`"),
        (usage("preparing"), "`bake: true`"),
        (usage("starting"), "lasts longer"),
        (usage("waiting"), "`max_in_flight`"),
        (usage("waiting", scenes=200), "scenes are small"),
    ],
)
def test_the_advice_is_about_the_largest_share_and_its_cause(found, words) -> None:
    assert diagnose(found).bound == max(found.shares, key=found.shares.get)
    assert words in diagnose(found).advice


def test_a_short_run_is_told_nothing() -> None:
    assert diagnose(usage("reading", seconds=2.0)).bound == ""


@pytest.mark.parametrize(
    ("block_hw", "size_hw", "expected"),
    [
        ((256, 256), (9000, 11000), False),
        ((1, 11000), (9000, 11000), True),
        ((16, 900), (9000, 900), False),
        ((8192, 8192), (9000, 11000), True),
        ((8192, 8192), (700, 600), False),
    ],
)
def test_strips_and_huge_blocks_are_badly_tiled(block_hw, size_hw, expected) -> None:
    assert is_badly_tiled(block_hw, size_hw, 512) is expected


def stint(role, begun: float, ended: float, *, thread: int, host: str = HOST, clock: float = CLOCK) -> Stint:
    span = Span(step=role, started=begun, seconds=ended - begun)
    return Stint(role=role, host=host, pid=thread, thread=thread, clock=clock, spans=(span,))


def lease(*stints: Stint, slot: int = 0, network: float) -> ShardsDone:
    names = ("read_seconds", "stitch_seconds", "write_seconds")
    return ShardsDone(
        source_id="a",
        shards=1,
        tiles=9,
        skipped=0,
        pixels=1,
        predict_seconds=network,
        slot=slot,
        stints=stints,
        **dict.fromkeys(names, 0.0),
    )


def begun_at(now: float, slots: int = 1) -> Busy:
    busy = Busy()
    busy.begin(PlanReady(scenes=1, tiles=1, pixels=1, skipped=0, slots=slots), now)
    return busy


def seconds_of(busy: Busy, now: float) -> dict[str, float]:
    found = busy.usage(now)
    assert sum(found.shares.values()) == pytest.approx(1.0)
    total = found.slots * found.seconds
    return {step: round(share * total, 6) for step, share in found.shares.items() if share > 1e-5}


def test_gaps_of_a_predictor_are_laid_to_what_it_waited_for() -> None:
    """Readers and writers elsewhere: only what is late counts."""
    busy = begun_at(100.0)
    busy(
        lease(
            stint("reader", 101, 103, thread=8),
            stint("predictor", 104, 110, thread=1),
            stint("writer", 110, 115, thread=9),
            network=5.0,
        )
    )
    busy(lease(stint("reader", 105, 109, thread=8), stint("predictor", 110, 120, thread=1), network=10.0))
    busy(lease(stint("reader", 118, 123, thread=8), stint("predictor", 124, 130, thread=1), network=6.0))
    assert seconds_of(busy, 140.0) == {
        "predicting": 21.0,
        "preparing": 1.0,
        "reading": 5.0,
        "starting": 2.0,
        "waiting": 1.0,
        "ending": 10.0,
    }


def test_what_the_predictors_own_thread_does_beside_counts_as_such() -> None:
    """Inline: one thread reads, predicts, writes and finishes."""
    busy = begun_at(0.0)
    for at in (0.0, 10.0):
        busy(
            lease(
                stint("reader", at, at + 2, thread=1),
                stint("predictor", at + 2, at + 6, thread=1),
                stint("writer", at + 6, at + 9, thread=1),
                network=4.0,
            )
        )
    busy(SceneDone(source_id="a", finish_seconds=5.0, stints=(stint("finisher", 20, 25, thread=1),)))
    assert seconds_of(busy, 26.0) == {
        "predicting": 8.0,
        "reading": 4.0,
        "writing": 6.0,
        "finishing": 5.0,
        "waiting": 1.0,
        "ending": 2.0,
    }


def test_a_predictor_that_had_nothing_waited_and_other_hosts_clocks_are_believed() -> None:
    busy = begun_at(50.0, slots=2)
    far = stint("predictor", 1050, 1060, thread=1, host="far", clock=CLOCK - 1000)
    busy(lease(far, network=10.0))
    assert seconds_of(busy, 60.0) == {"predicting": pytest.approx(10.0), "waiting": pytest.approx(10.0)}


def test_a_run_without_work_has_no_shares() -> None:
    assert Busy().usage(1e6).shares == {}
    assert diagnose(Busy().usage(1e6)).bound == ""


def test_photographs_tell_their_steps_themselves() -> None:
    busy = begun_at(0.0)
    for at in (1.0, 12.0):
        busy(
            GroupDone(
                images=5,
                failed=0,
                tiles=5,
                pixels=5,
                read_seconds=1.0,
                predict_seconds=6.0,
                stitch_seconds=2.0,
                write_seconds=1.0,
                stints=(stint("predictor", at, at + 10, thread=1),),
            )
        )
    assert seconds_of(busy, 25.0) == {
        "predicting": 12.0,
        "preparing": 4.0,
        "reading": 2.0,
        "writing": 2.0,
        "starting": 1.0,
        "waiting": 1.0,
        "ending": 3.0,
    }
