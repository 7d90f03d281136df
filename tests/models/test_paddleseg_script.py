import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from batchseg.models import paddleseg_script
from batchseg.models.deploy import named_stem, read_deploy
from batchseg.models.package import Normalize
from batchseg.models.paddleseg_script import (
    RefusedError,
    _bands,
    _check_weights,
    _forget_pretrained,
    _last_line,
    _load_weights,
    _notes,
    _write_deploy,
)


def test_weights_must_fit_by_name_and_shape_and_none_may_be_left_over() -> None:
    wanted = {"a": [2, 3], "b": [4]}
    _check_weights("w", wanted, dict(wanted))
    for found, reason in (
        ({"a": [2, 3]}, r"1 missing \(b\)"),
        ({"a": [3, 2], "b": [4]}, r"1 of another shape \(a \[3, 2\] instead of \[2, 3\]\)"),
        ({**wanted, "c": [1]}, r"1 not of this network \(c\)"),
        ({str(n): [1] for n in range(9)}, r"2 missing \(a, b\); 9 not of this network \(0, 1, 2, \.\.\.\)"),
    ):
        with pytest.raises(RefusedError, match=f"weights of another network: of 2 tensors, {reason}"):
            _check_weights("w", wanted, found)


def test_nothing_is_downloaded_and_bands_are_the_networks_own() -> None:
    model = {"pretrained": "https://a", "backbone": {"pretrained": "https://b", "in_channels": 4}}
    _forget_pretrained(model)
    assert model == {"pretrained": None, "backbone": {"pretrained": None, "in_channels": 4}}
    assert [_bands(m) for m in (model, {"in_channels": 6}, {}, {"backbone": {}})] == [4, 6, 3, 3]


def test_what_a_package_cannot_say_is_noted() -> None:
    def notes(**section: object) -> list[str]:
        return _notes(SimpleNamespace(dic=section))

    assert notes() == notes(test_config={"aug_eval": True, "scales": 1.0}) == []
    assert "resized by 0.5" in notes(test={"aug_eval": True, "scales": 0.5})[0]
    assert notes(test={"scales": 0.5}) == []
    assert "windows of [64, 48]" in notes(test_config={"is_slide": True, "crop_size": [64, 48]})[0]


def request_of(folder: Path, **changes: object) -> dict[str, object]:
    return {"output": str(folder), "output_op": "argmax"} | changes


@pytest.mark.parametrize(
    ("op", "output"), [("argmax", "classes"), ("softmax", "probabilities"), ("none", "logits")]
)
def test_the_deploy_file_is_one_that_a_model_is_read_from(tmp_path: Path, op: str, output: str) -> None:
    (tmp_path / "model.json").touch()
    transforms = [{"type": "Normalize", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}]
    _write_deploy(transforms, [None, 4, 200, 300], request_of(tmp_path, output_op=op))
    said = read_deploy(tmp_path / "deploy.yaml")
    assert (said.origin, said.shape, said.output) == ("paddleseg", (None, 4, 200, 300), output)
    assert said.normalize == Normalize(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    assert named_stem(tmp_path / "deploy.yaml") == "model"


class Network:
    """Three tensors, as a Paddle layer tells them; what it is given it keeps."""

    def __init__(self) -> None:
        self.given = None

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"a": np.zeros((2, 3)), "b": np.zeros(4)}

    def set_state_dict(self, state: object) -> None:
        self.given = state


def test_weights_are_loaded_whole_or_refused() -> None:
    network, state = (
        Network(),
        Network().state_dict() | {"StructuredToParameterName@@": {"a": "linear_0.w_0"}},
    )
    _load_weights(SimpleNamespace(load=lambda path: state), network, "w")
    assert network.given is state

    def damaged(path: str) -> object:
        msg = "In the file:\n  invalid load key, '\\x00'. (at /paddle/io.cc:7)"
        raise ValueError(msg)

    for load, reason in (
        (damaged, r"holds no Paddle weights \(\.pdparams\): invalid load key, '\\x00'\.$"),
        (lambda path: [1, 2], "holds a list; expected Paddle's weights by name"),
        (lambda path: {"a": np.zeros((2, 3))}, "weights of another network"),
    ):
        network = Network()
        with pytest.raises(RefusedError, match=reason) as caught:
            _load_weights(SimpleNamespace(load=load), network, "w.pdparams")
        assert caught.value.cause == "model"
        assert network.given is None


def test_the_answer_is_what_was_done_or_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = tmp_path / "request.json", tmp_path / "answer.json"
    asked.write_text(json.dumps({"seed": 7}))

    def refuse(request: dict[str, object]) -> None:
        raise RefusedError(f"seed {request['seed']} is no good", cause="config")

    for export, expected in (
        (lambda request: request | {"network": "PPLiteSeg"}, {"seed": 7, "network": "PPLiteSeg"}),
        (refuse, {"error": "seed 7 is no good", "cause": "config"}),
    ):
        monkeypatch.setattr(paddleseg_script, "export", export)
        paddleseg_script.main(str(asked), str(answer))
        assert json.loads(answer.read_text()) == expected


def test_an_error_is_told_by_its_last_line() -> None:
    for text, told in (
        ("one\n\n  two (at /paddle/x.cc:3)\n", "two"),
        ("x" * 400, "x" * 300),
        ("", "RuntimeError"),
        (" \n ", "RuntimeError"),
    ):
        assert _last_line(RuntimeError(text)) == told
