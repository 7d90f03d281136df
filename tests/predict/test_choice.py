"""What an output remembers of how its network is run, in JSON and in words."""

import dataclasses
import json

import pytest

from batchseg.job.settings import Gate
from batchseg.predict.choice import (
    Choice,
    as_document,
    describe_bench,
    describe_trial,
    figures,
    from_document,
    halo_figures,
    looser,
    refused,
    side_figures,
)
from batchseg.predict.gate import Agreement, shortfall
from batchseg.predict.halo import HaloFigure
from batchseg.predict.tile_size import TileFigure
from batchseg.predict.trial import Bench, Trial

NEAR = Agreement(pixels=1000, equal=999, sure=900, sure_differ=0, iou=((0, 1.0), (2, 0.9991)))
OFF = Agreement(pixels=10000, equal=9817, sure=9000, sure_differ=90, iou=((0, 0.99), (3, 0.9398)))
TRIALS = (
    Trial(engine="paddle", precision="fp32", tiles_per_second=10.0, megapixels_per_second=2.0, bare=True),
    Trial(
        engine="openvino",
        precision="bf16",
        tiles_per_second=31.0,
        megapixels_per_second=6.2,
        agreement=NEAR,
        memory=2**30,
    ),
    Trial(engine="paddle", precision="bf16", tiles_per_second=40.0, agreement=OFF, reason="lies"),
)
SIDES = (
    TileFigure(tile_size=512, work=2.0),
    TileFigure(tile_size=1024, work=1.5, changed=0.02, moved=0.03),
    TileFigure(tile_size=1408, work=1.4, changed=0.2, moved=0.03, reason="changes 20 %"),
)
HALOS = (HaloFigure(halo=16, pixels=100, changed=3, probability=0.5),)
CHOICE = Choice(
    engine="openvino",
    precision="bf16",
    device="cpu",
    baked=True,
    asked={"engine": "auto", "precision": "auto", "bake": True, "tile_size": None, "halo": None},
    trials=tuple(figures(trial) for trial in TRIALS),
    notes=("not baked: ...",),
    tile_size=1024,
    halo=96,
    halos=halo_figures(HALOS),
    sides=side_figures(SIDES),
    untried=("onnxruntime fp32",),
    quantized={"root": "", "path": "a.zip", "digest": "ab"},
    seams="about 2 % ...",
    seconds_per_tile=0.25,
)


def bench_of(**changes) -> Bench:
    usual = {
        "trials": TRIALS,
        "chosen": TRIALS[1],
        "tiles": 8,
        "workers": 2,
        "class_count": 4,
        "classes_seen": 3,
        "tile_size": 1024,
        "halo": 96,
        "sides": SIDES,
        "untried": ("onnxruntime fp32",),
    }
    return Bench(**(usual | changes))


def test_a_choice_survives_json() -> None:
    assert from_document(json.loads(json.dumps(as_document(CHOICE)))) == CHOICE
    assert from_document(None) is None


def test_a_choice_of_an_earlier_version_is_read() -> None:
    kept = from_document(
        {"engine": "paddle", "precision": "fp32", "device": "cpu", "baked": True, "asked": {}, "trials": []}
    )
    assert kept is not None
    assert (kept.compared, kept.tile_size, kept.sides) == (None, None, ())
    assert kept.summary == "paddle in fp32 on cpu, normalisation and classes inside the network"


def test_the_summary_names_the_tiles_and_the_proof_is_the_chosen_trials() -> None:
    assert CHOICE.summary.endswith(", tiles of 1024 with a halo of 96")
    assert CHOICE.proof == (
        "6.2 Mpx/s when tried, 3.1 x paddle fp32, 99.900% of pixels equal, 0.0000% other where the "
        "reference is sure"
    )


def test_a_trial_is_one_line() -> None:
    found = Agreement(
        pixels=1000, equal=999, sure=800, sure_differ=8, iou=((2, 0.95),), confidence_difference=0.25
    )
    trial = Trial(engine="openvino", precision="bf16", tiles_per_second=12.34, agreement=found, reason="lies")
    assert describe_trial(trial) == (
        "openvino bf16: 12.3 tiles/s, 99.9000% equal, 1.00000% other of 80.0% sure pixels, "
        "worst IoU 0.9500 (class 2), confidence off by 0.250 at most, out: lies"
    )
    assert describe_trial(TRIALS[0]) == "paddle fp32, the bare network: 2.0 Mpx/s"


def test_a_bench_is_its_trials_its_tiles_and_what_they_leave_open() -> None:
    lines = describe_bench(bench_of(untried_why="the time is up"))
    assert [line.partition(":")[0] for line in lines[:3]] == [
        "paddle fp32, the bare network",
        "openvino bf16",
        "paddle bf16",
    ]
    assert lines[3:] == [
        "tiles of 1024: 25% less work than of 512, change 2.00% of the pixels (moving the usual ones "
        "3.00%), passed",
        "tiles of 1408: 30% less work than of 512, change 20.00% of the pixels (moving the usual ones "
        "3.00%), out: changes 20 %",
        "not tried, as the time is up: onnxruntime fp32",
        "paddle bf16 would be 1.3 x as fast; gate: {equal_pixels: 0.99, iou: 0.939} takes it",
        "these tiles show 3 of 4 classes; nothing is proved of the others",
    ]


def test_a_trial_that_failed_is_a_line_and_what_this_machine_lacks_is_none() -> None:
    died = Trial(engine="onnxruntime", precision="fp32", reason="its process was ended by SIGSEGV")
    absent = Trial(engine="paddle", precision="fp16", reason="fp16 is for GPUs", offered=False)
    lines = describe_bench(bench_of(trials=(*TRIALS, died, absent), untried_why="the time is up"))
    assert lines[3] == "onnxruntime fp32: out: its process was ended by SIGSEGV"
    assert not any("GPUs" in line for line in lines)
    assert "not tried, as the time is up: onnxruntime fp32" in lines


def test_slow_networks_have_two_digits() -> None:
    slow = Trial(
        engine="openvino",
        precision="bf16",
        tiles_per_second=0.00321,
        megapixels_per_second=0.0431,
        agreement=NEAR,
    )
    assert describe_trial(slow).startswith("openvino bf16: 0.043 Mpx/s, ")
    assert describe_trial(dataclasses.replace(slow, megapixels_per_second=None)).startswith(
        "openvino bf16: 0.0032 tiles/s, "
    )
    choice = dataclasses.replace(CHOICE, trials=(figures(slow),))
    assert choice.proof.startswith("0.043 Mpx/s when tried, 99.900%")


def test_what_was_refused_and_is_slower_needs_no_words() -> None:
    assert refused(bench_of(chosen=Trial(engine="paddle", precision="int8", tiles_per_second=50.0))) == []


@pytest.mark.parametrize(
    "found",
    [
        OFF,
        Agreement(pixels=10000, equal=9817, iou=((0, 0.99), (3, 0.9398))),
        Agreement(
            pixels=10000, equal=10000, sure=10000, confidence_difference=0.5, mean_confidence_difference=0.3
        ),
    ],
    ids=["scores", "ids", "confidences alone"],
)
def test_the_looser_gate_that_is_named_takes_what_was_refused(found: Agreement) -> None:
    assert shortfall(found, Gate(), exact=True) is not None
    said = looser(Trial(engine="openvino", precision="fp32", agreement=found))
    equal, iou = (float(word.partition(": ")[2].rstrip("}")) for word in said[6:].split(", "))
    assert shortfall(found, Gate(equal_pixels=equal, iou=iou), exact=True) is None


def test_a_gate_that_takes_another_network_is_no_advice() -> None:
    far = Agreement(pixels=10_000, equal=8_226)
    wrong = Trial(
        engine="openvino", precision="bf16", tiles_per_second=99.0, agreement=far, reason="17.7 % are other"
    )
    lines = describe_bench(bench_of(trials=(*TRIALS, wrong), untried=()))
    assert any(line.endswith("x as fast, and calls 17.7% of the pixels otherwise") for line in lines)
    assert not any("0.8" in line and "takes it" in line for line in lines)
