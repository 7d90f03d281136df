"""Headers of good files, of bad ones, and of those over which a reader hangs: on a real cluster."""

import threading
from types import SimpleNamespace

import pytest
from conftest import reflectance, write_raster
from factories import make_recipe, make_source, source_of
from ray_fakes import FakeHosts, FakeRay

from batchseg.driver.executors.ray import headers
from batchseg.driver.executors.ray.headers import LOST_LIMIT, HeaderReader
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.errors import StoppedError
from batchseg.inputs.source import Refusal, Scene
from batchseg.pixels.header import read_header


def test_good_headers_come_first_and_a_bad_file_is_refused(ray_cluster, tmp_path):
    sources = [source_of(write_raster(tmp_path / name, reflectance(70, 80))) for name in ("a.tif", "c.tif")]
    bad = tmp_path / "b.tif"
    bad.write_bytes(b"II*\0 and no more")
    hosts = Hosts({})
    reader = HeaderReader({}, hosts, 60.0, threading.Event())
    first, second, third = reader.read([sources[0], source_of(bad), sources[1]])
    hosts.close()
    assert isinstance(first, Scene)
    assert isinstance(second, Scene)
    assert {first.source.uri, second.source.uri} == {source.uri for source in sources}
    assert isinstance(third, Refusal)
    assert third.source.uri == str(bad)


class Tasks:
    """Headers that never come by the batch; alone they come, as far as `alone` says."""

    def __init__(self, ray, alone):
        self.ray, self.alone, self.batches = ray, list(alone), []
        self.headers, self.headers_alone = (
            SimpleNamespace(options=lambda call=call, **_: SimpleNamespace(remote=call))
            for call in (self._batch, self._alone)
        )

    def _batch(self, where, sources):
        self.batches.append(len(sources))
        return self.ray.reference("batch")

    def _alone(self, where, sources, timeout):
        count = self.alone.pop(0)
        for source in sources[:count]:
            self.ray.answers[source.uri] = f"header of {source.uri}"
        return Answers([source.uri for source in sources[:count]], self.ray)


class Answers:
    """A streaming generator of Ray's: itself a reference, ready while there is a next one."""

    def __init__(self, refs, ray):
        self.refs, self.ray = refs, ray

    def __next__(self):
        return self.refs.pop(0)


class Waiting(FakeRay):
    def wait(self, refs, num_returns=1, timeout=None, fetch_local=True):
        return [ref for ref in refs if getattr(ref, "refs", None) or ref in self.answers], []


@pytest.fixture
def ray(monkeypatch):
    fake = Waiting()
    monkeypatch.setattr(headers, "ray", fake)
    monkeypatch.setattr(headers, "START_SECONDS", 0.02)
    return fake


def reader_of(monkeypatch, ray, alone, closing=None):
    tasks = Tasks(ray, alone)
    monkeypatch.setattr(headers, "tasks", tasks)
    return HeaderReader({}, FakeHosts(), 0.01, closing or threading.Event()), tasks


def test_a_batch_that_never_comes_is_looked_at_file_by_file(monkeypatch, ray):
    sources = [make_source(f"{number}.tif") for number in range(70)]
    reader, tasks = reader_of(monkeypatch, ray, alone=[3, 70])
    assert list(reader.read(sources)) == [f"header of {source.uri}" for source in sources]
    assert tasks.batches == [64, 6]
    assert ray.cancelled[:2] == ["batch 1", "batch 2"]


def test_what_reads_no_header_again_and_again_ends_the_run(monkeypatch, ray):
    reader, _ = reader_of(monkeypatch, ray, alone=[1] + [0] * LOST_LIMIT)
    answers = reader.read([make_source("a.tif"), make_source("b.tif")])
    assert next(answers) == "header of /archive/a.tif"
    with pytest.raises(StoppedError, match="headers could not be read: no answer in time"):
        next(answers)


def test_a_run_that_is_closing_waits_for_no_header(monkeypatch, ray):
    closing = threading.Event()
    closing.set()
    reader, _ = reader_of(monkeypatch, ray, alone=[], closing=closing)
    with pytest.raises(StoppedError, match="stopped while headers were read"):
        next(reader.read([make_source()]))
    reader.close()


def test_samples_are_read_on_the_cluster_and_a_slow_storage_gives_none(ray_cluster, monkeypatch, tmp_path):
    scene = read_header(source_of(write_raster(tmp_path / "a.tif", reflectance(70, 80))))
    recipe = make_recipe(bands=(1, 2, 3, 4), normalize=None)
    hosts = Hosts({})
    reader = HeaderReader({}, hosts, 60.0, threading.Event())
    (sample,) = reader.samples([scene], recipe)
    assert (sample.source_id, sample.pixels.shape[0]) == (scene.source.source_id, 4)
    monkeypatch.setattr(headers, "SAMPLE_SECONDS", 0.0)
    assert reader.samples([scene], recipe) == []
    hosts.close()
