import pytest
from factories import make_product

from batchseg.errors import ConfigError
from batchseg.job.class_names import class_ids
from batchseg.job.cleaning import VACANT

CLASSES = make_product("soil", "water", "vegetation").classes


def test_names_and_ids_are_ids_each_once():
    assert class_ids("regions: classes", ["water", 0, 1], CLASSES) == (0, 1)
    assert class_ids("regions: classes", [7, 3], ()) == (3, 7)


@pytest.mark.parametrize(
    ("wanted", "classes", "said"),
    [
        (
            ["watr"],
            CLASSES,
            r"'watr' is not among .* \(soil, water, vegetation\)\. Perhaps you meant 'water'",
        ),
        (["water"], (), "none is named"),
        ([3], CLASSES, "3 is no class id; there are 0..2"),
        ([-1], (), "-1 is no class id"),
        ([1], (CLASSES[0], VACANT), "no pixel has class 1, which `merge` makes part of another"),
        (["x"], (CLASSES[0], VACANT), r"\(soil\)"),
        ([""], (CLASSES[0], VACANT), "'' is not among"),
    ],
)
def test_what_is_no_class_is_refused(wanted, classes, said):
    with pytest.raises(ConfigError, match=f"regions: classes: .*{said}"):
        class_ids("regions: classes", wanted, classes)
