"""Storage's faults, one by one before what reads and writes, and in whole runs."""

import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from conftest import JobWriter, read_mask, reflectance, spectral_mask, write_raster
from runs import run

from batchseg.errors import ConfigError, CredentialsError, OutputError, SourceIOError, StoppedError
from batchseg.output import publish
from batchseg.output.ledger import Ledger
from batchseg.output.lock import hold
from batchseg.pixels import open
from batchseg.system import fetch, listing, retry, walk
from batchseg.system.file_info import file_info
from batchseg.system.location import Location
from faults.proxy import TRANSIENT, Spoiling, kind_of, proxied


@pytest.fixture
def proxy(s3_server, bucket, monkeypatch):
    """A proxy before the test's bucket, which all of batchseg goes through; pauses are short."""
    import botocore.retries.standard

    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda *_: 0.01)
    with proxied(s3_server) as made:
        options = {**fsspec.config.conf["s3"], "endpoint_url": made.url}
        for spelling in ("s3", "s3a"):
            monkeypatch.setitem(fsspec.config.conf, spelling, options)
        monkeypatch.setenv("FSSPEC_S3", json.dumps(options))
        yield made


@pytest.fixture
def direct(s3_server):
    """The server behind the proxy's back."""
    return fsspec.filesystem(
        "s3", endpoint_url=s3_server, key="testing", secret="testing", use_listings_cache=False
    )


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [
        ("GET", "/bucket/folder/key.tif", "read"),
        ("HEAD", "/bucket/key", "read"),
        ("GET", "/bucket?list-type=2&prefix=in%2F", "list"),
        ("PUT", "/bucket/key", "write"),
        ("POST", "/bucket?delete", "write"),
        ("POST", "/bucket/key?uploads", "upload"),
        ("PUT", "/bucket/key?partNumber=2&uploadId=x", "upload"),
    ],
)
def test_requests_are_told_apart(method, target, kind):
    assert kind_of(method, target) == kind


@pytest.mark.parametrize("fault", TRANSIENT)
def test_every_first_request_may_fail(fault, proxy, bucket, direct, tmp_path):
    content = {f"in/{name}": os.urandom(50_000 + n) for n, name in enumerate("abc")}
    for name, data in content.items():
        direct.pipe_file(f"{bucket}/{name}", data)
    one, data = f"{bucket}/in/b", content["in/b"]
    proxy.spoil(Spoiling(faults=(fault,), share=1, each=1))

    assert [info.size for info in listing.list_files(f"{bucket}/in/*")] == [50_000, 50_001, 50_002]
    assert len(listing.list_below(f"{bucket}/in")) == 3
    assert len(list(listing.list_folder(f"{bucket}/in"))) == 3
    assert sum(len(files.uris) for files in walk.walk(f"{bucket}/in")) == 3
    assert file_info(one).size == len(data)
    assert file_info(f"{bucket}/in/absent") is None
    assert fetch.read_bytes(one) == data
    assert fetch.read_tail(one, 100) == data[-100:]
    assert fetch.read_ranges(one, [0, 7, 40_000], [7, 9, 50_001]) == [data[:7], data[7:9], data[40_000:]]
    assert len(fetch.sha256(one)) == 64
    fetch.fetch(one, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data

    out = Location.of(f"{bucket}/out")
    publish.publish(out.below("published"), data)
    publish.publish_file(tmp_path / "copy", out.below("moved"))
    assert publish.create(out.below("created"), data)
    assert not publish.create(out.below("created"), b"another's")
    publish.remove_folder(Location.of(bucket).below("in"))
    publish.remove_files([out.below("published")])
    assert proxy.injected[fault] > 2
    assert {name.partition("/")[2] for name in direct.find(bucket)} == {"out/moved", "out/created"}
    assert direct.cat_file(f"{bucket}/out/moved") == direct.cat_file(f"{bucket}/out/created") == data


def test_what_is_there_already_is_known_by_the_code_alone(proxy, bucket):
    """Servers other than Amazon's do not name the condition that was not met."""
    proxy.spoil(Spoiling(faults=("terse error",), share=1, kinds={"write"}))
    segment = Location.of(bucket).below("segment")
    assert publish.create(segment, b"ours")
    assert publish.create(segment, b"ours")  # as after a lost reply
    assert not publish.create(segment, b"theirs")


def test_an_output_that_cannot_be_looked_at_is_nobodys_fault(proxy, bucket):
    with hold(f"{bucket}/out", "run") as lock:
        proxy.spoil(Spoiling(faults=("503 SlowDown",), share=1, kinds={"list"}))
        with pytest.raises(OutputError, match="cannot list"):
            lock.check()
        proxy.pause()
        lock.check()


@pytest.mark.slow
def test_a_large_upload_whose_end_was_not_heard_of_is_made_again(proxy, bucket, direct, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(101 * 2**20)
    proxy.spoil(Spoiling(faults=("lost reply",), share=1, kinds={"upload"}, only=r"POST .*uploadId", each=1))
    publish.publish_file(tmp_path / "large", Location.of(bucket).below("large"))
    assert proxy.injected["lost reply"] in (1, 2)  # a second upload is another request
    assert direct.info(f"{bucket}/large")["size"] == 101 * 2**20


def test_a_listing_that_fails_is_no_empty_one(proxy, bucket, direct):
    direct.pipe_file(f"{bucket}/in/a.tif", b"x")
    proxy.spoil(Spoiling(faults=("denied",), share=1, kinds={"list"}))
    for pattern in ("in/*.tif", "in/**/*.tif", "in"):
        with pytest.raises(SourceIOError, match=r"cannot list .*Access Denied"):
            list(listing.list_files(f"{bucket}/{pattern}"))
    proxy.pause()
    assert list(listing.list_files(f"{bucket}/absent/*.tif")) == []


@pytest.fixture
def scenes(bucket, direct, tmp_path):
    """Pixels of scenes in the bucket, by name; one is read by ranges in tests that say so."""
    made = {f"{name}.tif": reflectance(150 + 10 * n, 200, seed=n) for n, name in enumerate("ab")}
    for name, pixels in made.items():
        path = write_raster(tmp_path / "made" / name, pixels)
        direct.pipe_file(f"{bucket}/in/{name}", path.read_bytes())
    return made


def check_masks(output: Path, scenes: dict[str, np.ndarray]) -> None:
    for name, pixels in scenes.items():
        np.testing.assert_array_equal(read_mask(output, name), spectral_mask(pixels, 10_000))


SLOW = pytest.mark.slow
BY_RANGES = 1000
"""Bytes of a file from which on its blocks are asked for, so that the tests' files are read so."""


@pytest.mark.parametrize(
    "whole_bytes",
    [pytest.param(BY_RANGES, id="by ranges"), pytest.param(open.WHOLE_BYTES, id="copied", marks=SLOW)],
)
def test_a_run_goes_through_with_many_requests_spoiled(
    whole_bytes, proxy, bucket, scenes, write_job: JobWriter, tmp_path, monkeypatch
):
    monkeypatch.setattr(open, "WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(retry, "ATTEMPTS", 12)
    proxy.spoil(Spoiling(faults=TRANSIENT, share=0.6, each=2, seed=4))
    report = run(write_job(inputs=f"{bucket}/in/*.tif"))
    assert (report.tally.done, report.tally.quarantined, report.tally.failed) == (2, 0, 0)
    assert proxy.injected.total() > 0
    check_masks(tmp_path / "out", scenes)


@pytest.mark.parametrize(
    ("whole_bytes", "after"),
    [
        pytest.param(BY_RANGES, 6, id="by ranges"),
        pytest.param(open.WHOLE_BYTES, 3, id="copied", marks=SLOW),
    ],
)
def test_expired_credentials_end_the_run_and_blame_no_scene(
    whole_bytes, after, proxy, bucket, scenes, write_job: JobWriter, tmp_path, monkeypatch
):
    monkeypatch.setattr(open, "WHOLE_BYTES", whole_bytes)
    job = write_job(inputs=f"{bucket}/in/*.tif")
    proxy.spoil(Spoiling(faults=("expired",), share=1, kinds={"read"}, after=after))
    with pytest.raises(CredentialsError, match=r"refuses the credentials \(ExpiredToken: .*renew them"):
        run(job)
    assert not [record for record in Ledger(str(tmp_path / "out")).sources() if record.status != "done"]
    proxy.pause()
    assert run(job).tally.done == 2
    check_masks(tmp_path / "out", scenes)


def test_a_storage_that_fails_at_the_start_is_no_wrong_configuration(
    proxy, bucket, scenes, write_job: JobWriter
):
    job = write_job(inputs=f"{bucket}/in/*.tif")
    proxy.spoil(Spoiling(faults=("503 SlowDown",), share=1))
    for keys in ([], [f"output={bucket}/out"]):
        with pytest.raises(StoppedError, match="run again"):
            run(job, *keys)
    proxy.spoil(Spoiling(faults=("denied",), share=1))
    for keys in ([], [f"output={bucket}/out"]):
        with pytest.raises(ConfigError, match=r"Access Denied"):
            run(job, *keys)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(reflectance(150, 200, seed=9), id="changes"),
        pytest.param(None, id="vanishes", marks=SLOW),
    ],
)
def test_an_object_that_is_replaced_while_it_is_read_gives_no_mixture(
    other, proxy, bucket, direct, scenes, write_job: JobWriter, tmp_path, monkeypatch
):
    monkeypatch.setattr(open, "WHOLE_BYTES", BY_RANGES)
    asked = []

    def meddle(method: str, target: str) -> None:
        asked.extend([target] if target.endswith("/in/a.tif") else ())
        if len(asked) == 5 and target.endswith("/in/a.tif"):
            if other is None:
                direct.rm_file(f"{bucket}/in/a.tif")
            else:
                path = write_raster(tmp_path / "other.tif", other)
                direct.pipe_file(f"{bucket}/in/a.tif", path.read_bytes())

    proxy.meddle = meddle
    job = write_job(inputs=f"{bucket}/in/*.tif", shard_tiles=3)
    first = run(job)
    assert first.tally.quarantined == 0
    assert (first.tally.done, first.tally.failed) == (1, 1)
    second = run(job)
    assert (second.tally.quarantined, second.tally.failed) == (0, 0)
    check_masks(tmp_path / "out", {name: pixels for name, pixels in scenes.items() if name != "a.tif"})
    if other is not None:
        check_masks(tmp_path / "out", {"a.tif": other})
