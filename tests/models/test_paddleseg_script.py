from types import SimpleNamespace

import pytest

from batchseg.models.paddleseg_script import RefusedError, _bands, _check_weights, _forget_pretrained, _notes


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
