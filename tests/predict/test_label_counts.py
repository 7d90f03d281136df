"""Labels are counted by value."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from batchseg.predict.label_counts import VALUES_SHOWN, LabelCounts, count_labels

labels = st.lists(arrays(np.uint16, (5, 7), elements=st.integers(0, 9)), max_size=4)


@given(labels, st.integers(1, 12))
def test_every_pixel_is_counted_once(some, classes):
    found = count_labels(some, classes)
    flat = np.concatenate([np.ravel(one) for one in some]) if some else np.zeros(0, np.uint16)
    assert found.classes == tuple(int((flat == number).sum()) for number in range(classes))
    assert dict(found.others) == {int(v): int((flat == v).sum()) for v in np.unique(flat) if v >= classes}
    assert found.share_of_others == (float(np.mean(flat >= classes)) if flat.size else 0)


def test_what_they_hold_is_said_in_a_line():
    assert str(LabelCounts(classes=(3, 4, 5), others=())) == "classes 0, 1 and 2"
    assert str(LabelCounts(classes=(0, 4), others=())) == "class 1"
    many = LabelCounts(classes=(0,), others=tuple((value, 1) for value in range(1, VALUES_SHOWN + 3)))
    assert str(many) == (
        "no class of the model; 100.0 % of the pixels are no class (1, 2, 3, 4, 5, ...), "
        "and count for nothing"
    )
