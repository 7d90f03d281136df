import os

import pytest
from archives import find, touch

from batchseg.inputs.listing import current_tag


@pytest.mark.parametrize("name", ["a.tif.msk", "a.tif.aux.xml", "a.wld", "a.tfw", "a.tif.ovr"])
def test_the_tag_changes_when_a_sidecar_appears_or_changes(tmp_path, name):
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    tags = []
    for mtime in (None, 1000, 2000):
        if mtime:
            touch(tmp_path / name)
            os.utime(tmp_path / name, (mtime, mtime))
        a, b = find(tmp_path / "*.tif")[0]
        assert current_tag(a) == a.tag
        tags.append((a.tag, b.tag))
    assert len({a for a, _ in tags}) == 3
    assert len({b for _, b in tags}) == 1
