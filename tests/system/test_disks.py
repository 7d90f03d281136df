import errno

import pytest

from batchseg.errors import StoppedError
from batchseg.system import disks


def test_a_disk_that_fails_is_no_fault_of_the_job():
    assert disks.is_full(OSError(errno.EDQUOT, ""))
    assert disks.is_failing(OSError(errno.EIO, "")) and not disks.is_full(OSError(errno.EIO, ""))
    assert not disks.is_failing(OSError(errno.EACCES, ""))
    assert not disks.is_failing(ValueError())


def test_an_error_is_told_with_its_remedy(tmp_path):
    assert disks.describe(OSError(errno.EROFS, "Read-only file system")).endswith(
        "run the same command again"
    )
    assert disks.describe(OSError(errno.ENOENT, "gone")) == "gone"


def test_a_full_disk_is_named_with_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(disks, "LITTLE_BYTES", 2**62)
    said = disks.describe(OSError(errno.ENOSPC, "No space left"), tmp_path / "not" / "there")
    assert str(tmp_path) in said and "free" in said and "make room there" in said


def test_a_disk_with_room_and_one_that_is_not_there_are_not_full(tmp_path):
    assert disks.full_disk(tmp_path) is None
    assert disks.full_disk(tmp_path / "absent") is None


def test_too_little_room_stops_a_run_before_it_begins(tmp_path):
    disks.check_room(tmp_path, "Ray", nbytes=1, files=1)
    with pytest.raises(StoppedError, match=r"Ray cannot work in .*TMPDIR"):
        disks.check_room(tmp_path, "Ray", nbytes=2**62, files=1)


def test_only_a_disks_failure_stops_the_run():
    reason = r"the run stopped \(/a\): Input/output error"
    with pytest.raises(StoppedError, match=reason), disks.disk_failures("the run stopped"):
        raise OSError(errno.EIO, "Input/output error", "/a")
    with pytest.raises(PermissionError), disks.disk_failures("the run stopped"):
        raise PermissionError(errno.EACCES, "no", "/a")
