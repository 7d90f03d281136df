import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import fsspec
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from names import acts
from stored import put
from werkzeug.serving import make_server

from batchseg.errors import ConfigError, LockedError, OutputError
from batchseg.output import layout
from batchseg.output import lock as output_lock
from batchseg.output.ledger import Ledger
from batchseg.output.lock import check_work_goes_on, hold, holder
from batchseg.output.record import SceneRecord
from batchseg.system import listing
from batchseg.system.escape import shown
from batchseg.system.file_info import file_info
from batchseg.system.location import Location, join

HOLD = """
import sys
from batchseg.output import lock as locks
locks.BEAT_SECONDS, locks.STALE_SECONDS = 0.2, 1.5
with locks.hold(sys.argv[1], "other") as lock:
    print("held", flush=True)
    input()
    print(lock.lost(), flush=True)
"""


@pytest.fixture(params=["local", "s3"])
def output(request, tmp_path):
    """Where nothing is yet, on each kind of storage."""
    if request.param == "local":
        return str(tmp_path / "out")
    return request.getfixturevalue("bucket") + "/out"


@pytest.fixture
def quick(monkeypatch):
    """Signs of life that are missed sooner."""
    monkeypatch.setattr(output_lock, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(output_lock, "STALE_SECONDS", 1.5)


@contextlib.contextmanager
def another_run(output):
    """A process of its own that holds the output."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def taken_over(output):
    """The output, from a holder that gives no sign of life: as soon as that one counts as gone."""
    with contextlib.ExitStack() as stack:
        until = time.monotonic() + 10
        while True:
            try:
                lock = stack.enter_context(hold(output, "mine"))
                break
            except LockedError:
                assert time.monotonic() < until, "never taken over"
                time.sleep(0.1)
        yield lock


def test_a_second_process_cannot_take_the_output(output):
    with another_run(output) as process:
        assert f"process {process.pid}" in holder(output)
        with pytest.raises(LockedError, match=f"run other, process {process.pid}"), hold(output, "mine"):
            pass
        process.communicate("\n")
        assert holder(output) is None
        with hold(output, "mine"):
            assert "run mine" in holder(output)
    assert holder(output) is None


def test_dying_frees_a_local_output_at_once(tmp_path):
    output = str(tmp_path / "out")
    with another_run(output) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert holder(output) is None
        with hold(output, "mine"):
            pass


def test_dying_frees_a_bucket_after_a_while(bucket, quick):
    output = bucket + "/out"
    with another_run(output) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(LockedError), hold(output, "mine"):
            pass
        with taken_over(output):
            pass


def test_a_holder_that_slept_too_long_learns_that_it_lost(output, quick):
    with another_run(output) as process:
        process.send_signal(signal.SIGSTOP)
        with taken_over(output) as mine:
            process.send_signal(signal.SIGCONT)
            time.sleep(1)
            assert "took" in process.communicate("\n")[0]
            assert mine.lost() is None
            mine.check()
            assert "run mine" in holder(output)


def test_a_worker_learns_that_its_run_ended_is_ending_or_was_taken_over(output):
    check_work_goes_on(output, 1)  # where nobody ever held it, nobody ended
    with hold(output, "first") as lock:
        check_work_goes_on(output, lock.epoch)
        lock.end_work()
        with pytest.raises(OutputError, match="has ended: nothing more of it is published"):
            check_work_goes_on(output, lock.epoch)
        assert "run first" in holder(output)
        with pytest.raises(LockedError), hold(output, "second"):
            pass
    with pytest.raises(OutputError, match="has ended"):
        check_work_goes_on(output, lock.epoch)
    with hold(output, "second") as second:
        with pytest.raises(OutputError, match="another run took over"):
            check_work_goes_on(output, lock.epoch)
        check_work_goes_on(output, second.epoch)


def test_an_output_is_still_ending_after_a_sign_of_life(output, quick):
    with hold(output, "mine") as lock:
        lock.end_work()
        time.sleep(1)
        with pytest.raises(OutputError, match="has ended"):
            check_work_goes_on(output, lock.epoch)


def test_no_sign_of_life_follows_the_release(output, monkeypatch):
    """One that is under way while the output is released is done before, or not at all."""
    monkeypatch.setattr(output_lock, "BEAT_SECONDS", 0.01)
    look, looked, go_on = output_lock.Lock._look, threading.Event(), threading.Event()

    def slowly(lock):
        look(lock)
        if threading.current_thread() is not threading.main_thread():
            looked.set()
            assert go_on.wait(30)

    monkeypatch.setattr(output_lock.Lock, "_look", slowly)
    before = set(threading.enumerate())
    with hold(output, "one"):
        (beating,) = (thread for thread in set(threading.enumerate()) - before if "beat" in thread.name)
        assert looked.wait(30)
    go_on.set()
    beating.join(30)
    with hold(output, "two"):
        assert holder(output) is not None
        (info,) = output_lock.epochs.listed(output)
    assert output_lock.epochs.found(output, 2).released
    assert holder(output) is None
    assert info.uri.endswith("2.json")


def test_a_living_holder_keeps_the_output_however_long_it_works(output, quick):
    with hold(output, "mine") as mine:
        time.sleep(3)
        assert mine.lost() is None
        with pytest.raises(LockedError), hold(output, "other"):
            pass


def test_who_was_taken_over_cannot_commit_any_more(output, quick):
    old = Ledger(output)
    old.claim("old")
    old.append([SceneRecord(status="failed", source_id="a", tag="1")])
    new = Ledger(output)
    old.append([SceneRecord(status="failed", source_id="b", tag="1")])
    new.claim("new")  # reads what was committed meanwhile
    assert [record.source_id for record in new.sources()] == ["a", "b"]
    with pytest.raises(OutputError, match="took this output over"):
        old.append([SceneRecord(status="failed", source_id="c", tag="1")])
    new.append([SceneRecord(status="failed", source_id="d", tag="1")])
    assert [record.source_id for record in Ledger(output).sources()] == ["a", "b", "d"]


def test_an_output_that_is_moved_away_is_not_held(tmp_path):
    output = str(tmp_path / "out")
    with hold(output, "one") as lock:
        lock.check()
        (tmp_path / "out").rename(tmp_path / "moved")
        with pytest.raises(OutputError, match="moved or removed during the run"):
            lock.check()


def test_a_failed_run_frees_the_output(output):
    with pytest.raises(ZeroDivisionError), hold(output, "first"):
        raise ZeroDivisionError
    with hold(output, "second"):
        assert "run second" in holder(output)


def test_old_epochs_do_not_pile_up(output):
    for number in range(3):
        with hold(output, str(number)):
            pass
    files = [info.uri for info in listing.list_folder(join(output, "_batchseg", "locks"))]
    assert len(files) == 1


def test_what_killed_starts_left_goes_with_the_next(output):
    with hold(output, "first"):
        pass
    folder = join(output, "_batchseg", "locks")
    for name in (".tmp-0123", "clock-0123"):
        put(join(folder, name), b"")
    with hold(output, "second") as lock:
        (info,) = listing.list_folder(folder)
        assert info.uri == layout.epoch_file(output, lock.epoch).uri


def test_asking_who_holds_an_output_writes_nothing(tmp_path):
    assert holder(str(tmp_path / "out")) is None
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="output"), hold(str(tmp_path / "file" / "out"), "run"):
        pass


def test_a_read_only_file_system_is_the_environments_fault(tmp_path, read_only):
    with pytest.raises(OutputError, match="Read-only file system; make it"), hold(str(tmp_path / "o"), "run"):
        pass


def test_a_bucket_that_is_not_there_is_refused(bucket):
    with pytest.raises(ConfigError, match="storage"), hold(bucket + "-none/out", "run"):
        pass


@pytest.mark.parametrize("left", [b"", b"\0\0\xff{", b"[1, 2]", b"[" * 100_000])
def test_a_lock_that_a_power_cut_damaged_is_as_old_as_any_other(output, quick, left):
    uri = join(output, "_batchseg", "locks", "epoch-00000007.json")
    put(uri, left)
    if not Location.of(output).is_local:
        with pytest.raises(LockedError, match="damaged"), hold(output, "mine"):
            pass
    with taken_over(output) as mine:
        assert mine.epoch == 8


@pytest.mark.parametrize("hours", [-1, 1])
def test_where_no_flock_tells_a_lock_of_another_hour_is_stale(tmp_path, quick, monkeypatch, hours):
    monkeypatch.setattr(output_lock, "_is_flocked", lambda *arguments: None)
    path = tmp_path / "_batchseg" / "locks" / "epoch-00000003.json"
    put(path, b'{"token": "", "holder": "other", "released": false}')
    then = time.time() + 3600 * hours
    os.utime(path, (then, then))
    with hold(str(tmp_path), "mine") as mine:
        assert mine.epoch == 4


def test_a_lock_from_the_future_that_is_written_again_is_held(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(output_lock, "_is_flocked", lambda *arguments: None)
    ahead = iter(range(3600, 7200))
    real = file_info
    monkeypatch.setattr(
        output_lock,
        "file_info",
        lambda uri: dataclasses.replace(real(uri), modified=time.time() + next(ahead)),
    )
    path = tmp_path / "_batchseg" / "locks" / "epoch-00000003.json"
    put(path, b'{"token": "", "holder": "other", "released": false}')
    monkeypatch.setattr(output_lock, "_now", lambda output: time.time())
    with pytest.raises(LockedError, match="other"), hold(str(tmp_path), "mine"):
        pass


def test_a_number_that_others_left_meanwhile_is_no_lock(output, monkeypatch):
    """Who looked before two other runs came and went would take the number of the first of them."""
    real = output_lock._create

    def late(lock):
        if lock.text.startswith("run late"):
            monkeypatch.setattr(output_lock, "_create", real)
            with hold(output, "first"):
                pass
            stack.enter_context(hold(output, "second"))
        return real(lock)

    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(output_lock, "_create", late)
        with pytest.raises(LockedError, match="same moment"), hold(output, "late"):
            pass
        assert "run second" in holder(output)


def test_who_slept_finds_out_before_it_commits_even_after_its_successor_merged(output, monkeypatch):
    ledger = Ledger(output)
    with hold(output, "old") as old:
        ledger.claim("old", old.guard)
        monkeypatch.setattr(output_lock, "_is_free", lambda *arguments: True)
        with hold(output, "new") as new:
            successor = Ledger(output)
            successor.claim("new", new.guard)
            successor.append([SceneRecord(status="failed", source_id="a", tag="1")])
            successor.merge()
        monkeypatch.setattr(output_lock, "_since", lambda then: output_lock.STALE_SECONDS)
        with pytest.raises(OutputError, match="took"):
            ledger.append([SceneRecord(status="failed", source_id="b", tag="1")])
        with pytest.raises(OutputError, match="took"):
            ledger.merge()
    assert [record.source_id for record in Ledger(output).sources()] == ["a"]


def test_a_holder_is_seen_by_who_has_another_hour(tmp_path, monkeypatch):
    with another_run(str(tmp_path)):
        now = time.time() + 3600
        monkeypatch.setattr(output_lock.time, "time", lambda: now)
        assert "run other" in holder(str(tmp_path))


@pytest.mark.parametrize(
    "document",
    [
        '{"token": "", "holder": {"a": 1}, "released": false}',
        '{"token": 5, "holder": "a", "released": false}',
        json.dumps({"token": "", "holder": "a" * 501, "released": False}),
        "[" * 100_000,
        '{"token": "", "holder": "\\ud800", "released": false}',
        json.dumps({"token": "", "holder": "\x1b[2J\nbatchseg: all well\u202e", "released": False}),
    ],
)
def test_a_planted_holder_says_nothing_that_acts(tmp_path, document):
    path = layout.epoch_file(str(tmp_path), 1).path
    path.parent.mkdir(parents=True)
    path.write_text(document)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError) as caught, hold(str(tmp_path), "mine"):
            pass
        (line,) = caught.value.lines
        assert not acts(shown(line))
        assert len(line) < 1000
        assert holder(str(tmp_path)) in line


REFUSAL = (
    b"<Error><Code>NotImplemented</Code><Message>A header implies what is not implemented</Message></Error>"
)


@pytest.fixture
def careless_bucket(request, bucket, monkeypatch):
    """A bucket whose server passes over `If-None-Match`, or answers 501 to it, or to all that is written."""
    application = DomainDispatcherApplication(create_backend_app)

    def serve(environ, start):
        is_put = environ["REQUEST_METHOD"] == "PUT"
        is_conditional = is_put and "HTTP_IF_NONE_MATCH" in environ
        if request.param == "passes over":
            environ.pop("HTTP_IF_NONE_MATCH", None)
        elif is_conditional or (is_put and request.param == "501 to all"):
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            start("501 Not Implemented", [("Content-Type", "application/xml")])
            return [REFUSAL]
        return application(environ, start)

    server = make_server("127.0.0.1", 0, serve, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    options = fsspec.config.conf["s3"] | {"endpoint_url": f"http://127.0.0.1:{server.port}"}
    for spelling in ("s3", "s3a"):
        monkeypatch.setitem(fsspec.config.conf, spelling, options)
    yield bucket
    server.shutdown()


@pytest.mark.parametrize(
    ("careless_bucket", "seen"),
    [("passes over", "it replaced what was there"), ("501", "it answered NotImplemented")],
    indirect=["careless_bucket"],
)
def test_a_bucket_that_creates_what_is_there_is_refused_and_keeps_nothing(careless_bucket, seen):
    output = careless_bucket + "/out"
    with pytest.raises(ConfigError, match="only if it is absent.*" + seen) as caught, hold(output, "mine"):
        pass
    assert "copy the output to the bucket" in caught.value.lines[1]
    assert list(listing.list_folder(layout.locks_folder(output))) == []


@pytest.mark.parametrize("careless_bucket", ["501 to all"], indirect=True)
def test_what_a_server_refuses_in_every_write_is_no_matter_of_the_condition(careless_bucket):
    refused = pytest.raises(ConfigError, match=r"cannot write to .* not implemented; check")
    with refused, hold(careless_bucket + "/out", "mine"):
        pass


def test_of_two_that_one_epoch_was_given_to_the_first_finds_out(bucket, monkeypatch):
    """By a server that looks whether an object is there, and then writes it."""
    output = bucket + "/out"
    with hold(output, "first") as first:
        first.check()
        put(layout.epoch_file(output, 1).uri, b'{"token": "1", "holder": "second", "released": false}')
        with pytest.raises(OutputError, match=r"another run holds .* \(second\)"):
            first.check()
        with pytest.raises(OutputError, match="another run holds"):
            first.end_work()


KILLED = """
import errno, os, sys
from batchseg.errors import OutputError
from batchseg.output import lock
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord

def link(*_, **__):
    raise OSError(errno.EPERM, "no hard links here")

os.link, rename = link, os.rename
if sys.argv[2] == "epoch":
    os.rename = lambda *_, **__: os._exit(9)
with lock.hold(sys.argv[1], "killed"):
    ledger = Ledger(sys.argv[1])
    ledger.claim("killed")
    ledger.append([SceneRecord(status="failed", source_id="a", tag="1")])
    os.rename = lambda *_, **__: os._exit(9)
    ledger.append([SceneRecord(status="failed", source_id="b", tag="1")])
"""
"""A run on a disk without hard links, killed between the two steps in which a file is created there."""


@pytest.mark.parametrize(("over", "kept"), [("epoch", []), ("segment", ["a"])])
def test_without_hard_links_a_kill_amid_a_creation_loses_nothing_that_was_recorded(
    tmp_path, quick, over, kept
):
    output = str(tmp_path / "out")
    done = subprocess.run([sys.executable, "-c", KILLED, output, over], check=False)
    assert done.returncode == 9
    empty = [path for path in (tmp_path / "out" / "_batchseg").rglob("*-*") if not path.stat().st_size]
    assert [path.name.partition("-")[0] for path in empty] == [over]
    with taken_over(output) as mine:
        assert [record.source_id for record in Ledger(output).sources()] == kept
        ledger = Ledger(output)
        ledger.claim("mine", mine.guard)
        ledger.append([SceneRecord(status="failed", source_id="b", tag="1")])
        ledger.merge()
    assert [record.source_id for record in Ledger(output).sources()] == [*kept, "b"]


def test_an_epoch_that_is_only_begun_is_not_taken_for_a_dead_ones(tmp_path):
    place = layout.epoch_file(str(tmp_path), 1)
    put(place.uri, b"")
    with pytest.raises(LockedError, match="damaged"), hold(str(tmp_path), "mine"):
        pass


def test_a_holder_that_came_by_another_mount_is_told_by_its_signs_of_life(tmp_path, quick, monkeypatch):
    """Its flock is seen there alone, as on FUSE: here it looks as if its process had died."""
    place = layout.epoch_file(str(tmp_path), 1)
    said = {"token": "1", "holder": "other", "released": False, "ending": False, "scope": "elsewhere:1"}
    put(place.uri, json.dumps(said).encode())
    assert holder(str(tmp_path)) == "other"
    with pytest.raises(LockedError, match="other"), hold(str(tmp_path), "mine"):
        pass
    with taken_over(str(tmp_path)) as mine:
        assert mine.epoch == 2
