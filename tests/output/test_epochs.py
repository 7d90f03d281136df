import json

import pytest
from stored import put

from batchseg.errors import OutputError
from batchseg.output import epochs, layout


def test_the_newest_epoch_is_the_one_of_the_highest_number(root):
    assert epochs.newest(root) == 0
    for number in (9, 10, 2):
        put(layout.epoch_file(root, number).uri, b"")
    put(layout.locks_folder(root).below("clock-0123").uri, b"")
    assert epochs.newest(root) == 10
    assert len(epochs.listed(root)) == 4


def test_an_epoch_says_whose_it_is_and_what_became_of_it(root):
    said = {"token": "5", "holder": "run a", "released": False, "ending": True}
    put(layout.epoch_file(root, 1).uri, json.dumps(said).encode())
    found = epochs.found(root, 1)
    assert (found.token, found.text, found.released, found.ending) == ("5", "run a", False, True)
    assert epochs.found(root, 2) is None


@pytest.mark.parametrize(
    "left", [b"", b"{", b"[" * 100_000, b'{"token": 5, "holder": "a", "released": true}']
)
def test_a_damaged_epoch_is_held_by_nobody_knows_whom(root, left):
    put(layout.epoch_file(root, 1).uri, left)
    found = epochs.read(layout.epoch_file(root, 1))
    assert (found.token, found.released) == ("", False)
    assert "is damaged" in found.text


def test_an_epoch_that_cannot_be_read_is_no_damage(tmp_path):
    layout.epoch_file(str(tmp_path), 1).path.mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot read"):
        epochs.read(layout.epoch_file(str(tmp_path), 1))
