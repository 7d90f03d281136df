import numpy as np
import pytest
from factories import make_recipe

from batchseg.errors import MismatchError
from batchseg.pixels.photo.picture import make_picture
from batchseg.predict.photo_values import SIDE, sample_photo


def test_pixels_are_taken_all_over_a_photograph() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 300, 3), dtype=np.uint8)
    sample = sample_photo("a.png", make_picture(pixels, None, "RGB", orientation=1), make_recipe())
    assert sample is not None
    assert len(sample.pixels) == 3
    assert 1000 < sample.pixels.shape[1] <= SIDE**2
    assert abs(float(sample.pixels.mean()) - float(pixels.mean())) < 3


def test_transparent_pixels_do_not_count() -> None:
    pixels = np.full((40, 50, 3), 7, np.uint8)
    pixels[:20] = 200
    valid = np.zeros((40, 50), bool)
    valid[20:] = True
    sample = sample_photo("a.png", make_picture(pixels, valid, "RGBA", orientation=1), make_recipe())
    assert sample is not None
    assert np.unique(sample.pixels).tolist() == [7]
    nothing = make_picture(pixels, np.zeros((40, 50), bool), "RGBA", orientation=1)
    assert sample_photo("a.png", nothing, make_recipe()) is None


def test_bands_that_are_not_there_are_a_mismatch() -> None:
    picture = make_picture(np.zeros((8, 9, 2), np.uint8), None, "grey and alpha", orientation=1)
    with pytest.raises(MismatchError):
        sample_photo("a.png", picture, make_recipe())
