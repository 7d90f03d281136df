import itertools
import os
import threading

import fsspec
import pytest

from batchseg.errors import ConfigError, CredentialsError, StoppedError
from batchseg.system import storage
from batchseg.system.location import Location


@pytest.fixture
def options(monkeypatch):
    """The process's own options, put back afterwards."""
    for name in list(os.environ):
        if name.startswith("FSSPEC_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(fsspec.config, "conf", {})
    yield fsspec.config.conf
    for name in list(os.environ):
        if name.startswith("FSSPEC_"):
            del os.environ[name]


def test_options_get_fsspecs_names_for_each_spelling(options):
    storage.configure({"s3": {"endpoint": "http://minio:9000", "anonymous": True, "profile": "archive"}})
    expected = {"endpoint_url": "http://minio:9000", "anon": True, "profile": "archive"}
    assert options == {"s3": expected, "s3a": expected}


def test_an_option_that_fsspec_has_another_value_for_is_left_out_where_it_is_off(options):
    storage.configure({"gs": {"anonymous": False}, "az": {"anonymous": False}})
    assert (options["gcs"], options["abfs"]) == ({}, {"anon": False})


def test_another_process_adopts_the_options(options):
    storage.configure({"s3": {"profile": "archive"}})
    where = storage.environment()
    assert sorted(where) == ["FSSPEC_S3", "FSSPEC_S3A"]
    for name in where:
        del os.environ[name]
    options.clear()
    storage.adopt(where)
    assert options["s3"] == {"profile": "archive"}
    assert storage.environment() == where


@pytest.mark.parametrize("uri", ["/data/a b#.tif", "file:///data/a b#.tif"])
def test_a_local_path_is_found_by_address_and_by_place(uri):
    for where in (uri, Location.of(uri)):
        fs, path = storage.filesystem(where)
        assert ("file" in fs.protocol, path) == (True, "/data/a b#.tif")


def test_a_protocol_without_client_is_an_os_error():
    with pytest.raises(OSError, match="no-such"):
        storage.filesystem("no-such://bucket/a")


def test_errors_without_words_get_some():
    with pytest.raises(OSError, match="KeyError: 'Contents'"), storage.as_os_error():
        raise KeyError("Contents")
    with pytest.raises(PermissionError, match="check the credentials"), storage.as_os_error():
        raise PermissionError
    with pytest.raises(FileNotFoundError, match="because"), storage.as_os_error():
        raise FileNotFoundError from ValueError("because")


def test_credentials_that_are_over_are_no_files_fault():
    class ClientError(Exception):
        response = {"Error": {"Code": "ExpiredToken"}}  # noqa: RUF012

    with pytest.raises(CredentialsError, match="ExpiredToken"), storage.as_os_error():
        raise ClientError("over")


def test_what_may_pass_stops_a_run_that_has_not_begun_and_what_is_wrong_is_the_jobs():
    assert isinstance(storage.refusal(TimeoutError("slow"), "cannot list"), StoppedError)
    assert isinstance(storage.refusal(FileNotFoundError("gone"), "cannot list"), ConfigError)


def test_requests_run_at_once_elsewhere_and_keep_their_order():
    together = threading.Barrier(3, timeout=20)

    def ask(number):
        together.wait()
        return number

    assert storage.at_once(ask, [0, 1, 2], "s3://bucket") == [0, 1, 2]


def test_on_a_local_disk_one_follows_the_other():
    main = threading.current_thread()
    assert storage.at_once(lambda _: threading.current_thread(), [0, 1], "/data") == [main] * 2


def test_a_glob_matches_whole_texts():
    assert storage.glob_regex("a/*.tif").match("a/b.tif")
    assert not storage.glob_regex("a/*.tif").match("a/b/c.tif")
    with pytest.raises(ValueError, match="\\*\\*"):
        storage.glob_regex("a**")


def test_requests_without_end_keep_their_order_and_run_a_few_ahead():
    asked, lock = [], threading.Lock()

    def ask(item):
        with lock:
            asked.append(item)
        return item

    answers = storage.in_order(ask, itertools.count(), "s3://bucket")
    assert [next(answers) for _ in range(100)] == list(range(100))
    answers.close()
    assert 100 <= len(asked) <= 100 + 2 * storage.REQUESTS
    assert list(storage.in_order(ask, range(5), "s3://bucket")) == list(range(5))
    asked.clear()
    here = storage.in_order(ask, itertools.count(), "/data")
    assert (next(here), asked) == (0, [0]), "one after the other on a local disk"
