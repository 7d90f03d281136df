"""Models exported once, one Ray cluster for all tests, scenes made on the spot."""

import copy
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import fsspec
import numpy as np
import pytest
import rasterio
import yaml
from graphs import write_nchw
from hypothesis import settings
from numpy.typing import NDArray
from packages import onnx_package
from photo_runs import RULES, JobMaker
from rasterio.transform import Affine

from batchseg.api.stopping import STOP
from batchseg.cli.main import main
from batchseg.models.package import ModelPackage
from batchseg.output.mask_names import mask_name
from batchseg.output.state import load_state
from batchseg.system import retry
from batchseg.system.threads import Helper

REPOSITORY = Path(__file__).parent.parent
BATCHSEG = str(Path(sys.executable).with_name("batchseg"))

SHARED = Path(os.environ.get("BATCHSEG_DATA", REPOSITORY.parent / "shared" / "data"))
"""Real imagery for the tests that need some; they skip where it is absent."""

collect_ignore = ["paddleseg_reference.py"]
"""Runs in an interpreter that has paddleseg."""

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")  # 0.2 s an example is much, but not on a busy machine

UTM = Affine(10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_000.0)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[dict[str, Any] | None]:
    """pytest-xdist sends what a test logged as UTF-8; a name that is none would end the whole run."""
    return _as_utf8((yield))


def _as_utf8(value: Any) -> Any:
    """The same report, with escapes in place of the bytes that are no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _as_utf8(held) for key, held in value.items()}
    return type(value)(map(_as_utf8, value)) if isinstance(value, list | tuple) else value


@pytest.fixture(scope="session", autouse=True)
def _model_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Derived networks of the tests, of processes that they start too, stay out of the user's cache."""
    os.environ["BATCHSEG_MODEL_CACHE"] = str(tmp_path_factory.mktemp("model-cache"))


@pytest.fixture(autouse=True)
def _no_thread_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread hangs, `main` ends its process at once: here that would be pytest, without a word."""
    monkeypatch.setattr(Helper, "given_up", 0)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """`main` leaves signals ignored, as its process is about to end: the next test's would not be heard."""
    before = {number: signal.getsignal(number) for number in STOP}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that fail are sent again at once: how long others wait is tested with `retry`."""
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as /tmp is: every user reaches it and writes to it."""
    folder = Path(tempfile.mkdtemp(prefix="shared-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the models of tests/models.py, exported by a process of their own."""
    folder = tmp_path_factory.mktemp("models")
    paths = os.pathsep.join((str(REPOSITORY / "jobs"), str(REPOSITORY / "tests")))
    subprocess.run(
        [sys.executable, "-W", "ignore", str(REPOSITORY / "tests" / "models.py"), str(folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
    )
    return folder


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses all changes, the removal of what is not there too, as Linux does."""

    def refuse(path: Path, *arguments: Any, **options: Any) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        return as_it_is(path, mode, *arguments, **options) if set(mode) <= set("rbt") else refuse(path)

    as_it_is = Path.open
    for name in ("unlink", "mkdir", "rename", "replace", "write_bytes"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(Path, "open", open_)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster of two CPUs that lives as long as the tests."""
    import ray

    import batchseg.driver.executors.ray.executor  # noqa: F401  its environment settings come before Ray starts
    from batchseg.driver.executors.ray.cluster import own_token

    ray.shutdown()  # what a call of Ray's outside of any cluster starts by itself
    with own_token():
        ray.init(
            address="local",  # whatever runs on this machine
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=512 * 2**20,
        )
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server that lives as long as the tests."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder on a local disk, and one on a storage that is none."""
    if request.param == "local":
        yield str(tmp_path / "root")
    else:
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        yield "memory://root"
        memory.store.clear()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket, for this process and for all that it starts."""
    options = {"endpoint_url": s3_server, "key": "testing", "secret": "testing"}
    for spelling in ("s3", "s3a"):
        monkeypatch.setitem(fsspec.config.conf, spelling, options)
    monkeypatch.setenv("FSSPEC_S3", json.dumps(options))
    name = f"b{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


def write_raster(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    """A GeoTIFF of an array (bands, height, width); tiled, in UTM, unless the profile says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    defaults = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        "crs": "EPSG:32633",
        "transform": UTM,
        "compress": "deflate",
    }
    if profile.get("driver", "GTiff") == "GTiff" and min(height, width) >= 64:
        defaults |= {"tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(path, "w", **(defaults | profile)) as dataset:
        dataset.write(pixels)
    return path


def reflectance(height: int, width: int, seed: int = 0) -> NDArray[np.uint16]:
    """Four bands of smooth reflectance x 10000 that hold all classes of the spectral model."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (9 + 4 * b)) * np.cos(cols / (13 - 2 * b)) for b in range(4)]
    noise = rng.normal(0, 0.02, (4, height, width))
    values = np.clip(0.2 + 0.15 * np.array(waves) + noise, 0.001, 1)
    return (values * 10_000).astype(np.uint16)


JobWriter = Callable[..., Path]


@pytest.fixture
def write_job(tmp_path: Path, models: Path) -> JobWriter:
    """Writes job.yaml for the spectral model over `in/*.tif`; keyword arguments replace keys."""

    def write(**keys: Any) -> Path:
        job = {
            "inputs": "in/*.tif",
            "model": str(models / "spectral"),
            "output": "out",
            "bands": [1, 2, 3, 4],
            "tile_size": 64,
            "halo": 8,
            "scale": {"divide": 10000},
            "classes": ["soil", "water", "vegetation", "bright"],
            "gate": {"budget": 0},  # trials take longer than most tests
        }
        job = {key: value for key, value in (job | keys).items() if value is not None}
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(job, sort_keys=False))
        return path

    return write


def batchseg(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The console script, as a user runs it."""
    return subprocess.run(
        [BATCHSEG, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False, **options
    )


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`main` within this process, which is spared the start of another: what it prints and exits with."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return subprocess.CompletedProcess(words, int(str(ended.value.code or 0)), *capfd.readouterr())

    # What a job says of storages holds for all of its process.
    variables, options = dict(os.environ), copy.deepcopy(fsspec.config.conf)
    yield call
    os.environ.clear()
    os.environ.update(variables)
    fsspec.config.conf.clear()
    fsspec.config.conf.update(options)


def spectral_mask(
    pixels: NDArray[Any], divisor: float, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """What the spectral model must give for a whole raster, by numpy."""
    import spectral

    scores = spectral.scores(pixels.astype(np.float32) / np.float32(divisor))
    mask = np.argmax(scores, axis=0).astype(np.uint8)
    return mask if valid is None else np.where(valid, mask, 255).astype(np.uint8)


def read_mask(output: Path, source_id: str, layer: str = "masks") -> NDArray[Any]:
    state = load_state(str(output))
    assert state is not None
    with rasterio.open(output / layer / mask_name(source_id, "tif", state.mask_names)) as dataset:
        mask: NDArray[Any] = dataset.read(1)
    return mask


@pytest.fixture
def onnx_file(tmp_path: Path) -> ModelPackage:
    return onnx_package(write_nchw(tmp_path / "net.onnx"), bands=3)


@pytest.fixture
def job_and_output(request, tmp_path: Path, write_job: JobWriter) -> tuple[Path, str]:
    """A job over a.tif, b.tif and c.tif, of which b.tif is no raster, and where its results go."""
    for name, height in (("a", 70), ("c", 90)):
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(height, 110, seed=height))
    (tmp_path / "in" / "b.tif").write_bytes(b"II*\0 no raster")
    if getattr(request, "param", "local") == "local":
        return write_job(), str(tmp_path / "out")
    output = request.getfixturevalue("bucket") + "/night/out"
    return write_job(output=output), output


@pytest.fixture
def photo_job(tmp_path: Path, models: Path) -> JobMaker:
    """Writes job.yaml for the model `spots` over the folder `in`; keyword arguments replace keys."""

    def write(**keys: Any) -> Path:
        job = {
            "inputs": "in",
            "model": str(models / "spots"),
            "output": "out",
            "fit": "tile",
            "tile_size": 64,
            "halo": 4,
            "classes": ["none", "red", "green", "blue"],
            "masks": "failed",
            "rules": RULES,
            "gate": {"budget": 0},
        }
        job = {key: value for key, value in (job | keys).items() if value is not None}
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(job, sort_keys=False))
        return path

    return write
