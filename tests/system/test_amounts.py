import pytest

from batchseg.system.amounts import counted, pixels_in_words


@pytest.mark.parametrize(("count", "words"), [(0, "0 headers"), (1, "1 header"), (2, "2 headers")])
def test_one_is_not_many(count: int, words: str) -> None:
    assert counted(count, "header") == words


@pytest.mark.parametrize("pixels", [1, 50, 9_999, 99_999, 100_000, 10**9])
def test_what_is_there_is_never_nothing_in_words(pixels: int) -> None:
    said, unit = pixels_in_words(pixels).replace(",", "").split()
    shown = float(said) * {"px": 1, "Mpx": 1e6}[unit]
    assert shown == pytest.approx(pixels, rel=0.05)
