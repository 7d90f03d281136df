import os
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
from archives import find
from factories import write_raster
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling

from batchseg.errors import SourceError, StoppedError
from batchseg.pixels import open
from batchseg.pixels.gdal import gdal
from batchseg.pixels.open import _RemoteFile, open_raster, storage_failure
from batchseg.system import fetch
from batchseg.system.file_info import FileInfo, file_info
from batchseg.system.temp_folders import CACHE_VARIABLE

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8))


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


steps = st.lists(st.tuples(st.integers(0, 1100), st.integers(-1, 400)), max_size=12)


@given(steps=steps, page=st.sampled_from([7, 64, 5000]), kept=st.sampled_from([1, 3, 100]))
def test_a_remote_file_reads_as_a_local_one(steps, page, kept):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/reads/file", CONTENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open, "PAGE_BYTES", page)
        patch.setattr(open, "PAGES_KEPT", kept)
        info = FileInfo(uri="memory://reads/file", size=len(CONTENT), version="1")
        with _RemoteFile(info, []) as remote:
            for position, size in steps:
                assert remote.seek(position) == remote.tell() == position
                assert remote.read(size) == CONTENT[position : None if size < 0 else position + size]
            assert remote.seek(-5, os.SEEK_END) == 995
            assert remote.get_byte_ranges([0, 990], [3, 10]) == [CONTENT[:3], CONTENT[990:]]


def test_pages_that_are_there_are_not_asked_for_again(memory, monkeypatch):
    memory.pipe_file("/reads/file", CONTENT)
    asked = []
    real = fetch.read_ranges
    monkeypatch.setattr(fetch, "read_ranges", lambda *a: asked.append(a[1:]) or real(*a))
    monkeypatch.setattr(open, "PAGE_BYTES", 100)
    remote = _RemoteFile(FileInfo(uri="memory://reads/file", size=1000, version="1"), [])
    for position, size in ((0, 4), (10, 50), (90, 20), (150, 300), (0, 450)):
        remote.seek(position)
        remote.read(size)
    assert asked == [([0], [100]), ([100], [200]), ([200], [500])]


def test_a_failure_is_told_once_and_leaves_no_page(memory, monkeypatch):
    info = FileInfo(uri="memory://reads/gone", size=300, version="1")
    remote = _RemoteFile(info, open._failures.seen)
    assert remote.read(10) == bytes(10)
    assert "gone" in storage_failure()
    assert storage_failure() is None
    memory.pipe_file("/reads/gone", CONTENT[:300])
    remote.seek(0)
    assert remote.read(10) == CONTENT[:10]
    assert storage_failure() is None


def put(memory, folder: Path, *names: str) -> list[str]:
    for name in names:
        memory.pipe_file(f"/b/in/{name}", (folder / name).read_bytes())
    return [f"memory://b/in/{name}" for name in names]


def scene(folder: Path) -> np.ndarray:
    """a.tif, tiled, with a mask beside it."""
    pixels = np.random.default_rng(1).integers(0, 255, (3, 150, 210), dtype=np.uint8)
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    path = write_raster(folder / "a.tif", pixels, **profile)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        valid = np.full((150, 210), 255, dtype=np.uint8)
        valid[:, :50] = 0
        dataset.write_mask(valid)
    assert path.with_name("a.tif.msk").exists()
    return pixels


@pytest.mark.parametrize("whole", [0, 2**30], ids=["ranges", "copy"])
def test_rasters_and_their_sidecars_are_read_from_where_they_lie(tmp_path, memory, cache, monkeypatch, whole):
    monkeypatch.setattr(open, "WHOLE_BYTES", whole)
    pixels = scene(tmp_path)
    files = put(memory, tmp_path, "a.tif", "a.tif.msk")
    with open_raster(files[0], files) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        assert not dataset.read_masks(1)[:, :50].any()
        assert dataset.read_masks(1)[:, 50:].all()
    with open_raster(files[0], files[:1]) as dataset:  # what is not the source's is not looked at
        assert dataset.read_masks(1).all()
    assert any(cache.iterdir()) == bool(whole)


@pytest.mark.parametrize("whole", [0, 2**30], ids=["ranges", "copy"])
@pytest.mark.parametrize("beside", [False, True], ids=["inside", "beside"])
def test_an_overview_is_opened_in_place_of_the_raster(tmp_path, memory, cache, monkeypatch, whole, beside):
    monkeypatch.setattr(open, "WHOLE_BYTES", whole)
    pixels = np.random.default_rng(3).integers(0, 255, (2, 160, 240), dtype=np.uint8)
    path = write_raster(tmp_path / "a.tif", pixels)
    with rasterio.Env(TIFF_USE_OVR=beside), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    assert (tmp_path / "a.tif.ovr").exists() == beside
    files = put(memory, tmp_path, "a.tif", *(["a.tif.ovr"] if beside else []))
    with open_raster(files[0], files, level=1) as dataset:
        np.testing.assert_allclose(dataset.read(), pixels.reshape(2, 40, 4, 60, 4).mean(axis=(2, 4)), atol=2)
    with open_raster(str(path), [str(path), *([f"{path}.ovr"] if beside else [])], level=0) as dataset:
        assert dataset.shape == (80, 120)


def test_a_copy_is_made_once_and_again_for_another_version(tmp_path, memory, cache, monkeypatch):
    fetched = []
    real = fetch.fetch
    monkeypatch.setattr(fetch, "fetch", lambda uri, *rest: fetched.append(uri) or real(uri, *rest))
    write_raster(tmp_path / "a.png", np.full((1, 30, 40), 5, np.uint8), driver="PNG")
    (uri,) = put(memory, tmp_path, "a.png")
    for _ in range(2):
        with open_raster(uri) as dataset:
            assert dataset.read(1)[0, 0] == 5
    assert len(fetched) == 1
    write_raster(tmp_path / "a.png", np.full((1, 99, 40), 6, np.uint8), driver="PNG")
    put(memory, tmp_path, "a.png")
    with open_raster(uri) as dataset:
        assert dataset.read(1)[0, 0] == 6


def test_a_vrt_finds_its_members_in_the_copy(tmp_path, memory, cache):
    pixels = scene(tmp_path)
    text = """<VRTDataset rasterXSize="210" rasterYSize="150"><VRTRasterBand dataType="Byte" band="1">
      <SimpleSource><SourceFilename relativeToVRT="1">deep/a.tif</SourceFilename><SourceBand>2</SourceBand>
      </SimpleSource></VRTRasterBand></VRTDataset>"""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.tif").rename(tmp_path / "deep" / "a.tif")
    (tmp_path / "a.vrt").write_text(text)
    files = put(memory, tmp_path, "a.vrt", "deep/a.tif")
    with open_raster(files[0], files, allow_vrt=True) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels[1])


def test_the_oldest_copies_make_room(tmp_path, memory, cache, monkeypatch):
    monkeypatch.setattr(open, "CACHE_BYTES", 250)
    for number in range(4):
        (tmp_path / f"{number}.asc").write_text("ncols 1\nnrows 1\ncellsize 1\n" + f"{number}\n" * 30)
        (uri,) = put(memory, tmp_path, f"{number}.asc")
        os.utime(cache)
        open._copied(file_info(uri), [file_info(uri)])
        for age, folder in enumerate(sorted(cache.glob("*/"), key=lambda p: p.stat().st_mtime, reverse=True)):
            os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    kept = sorted(path.name for path in cache.rglob("*.asc"))
    assert "3.asc" in kept
    assert "0.asc" not in kept


def test_a_file_that_is_gone_is_the_storages_error(memory, cache):
    with pytest.raises(FileNotFoundError, match="gone"):
        open_raster("memory://b/none.tif")


PLANTED = """
import hashlib, os, sys
from pathlib import Path
import fsspec
from batchseg.pixels.open import open_raster
from batchseg.system.file_info import file_info
shared, victim, stranger = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
fsspec.filesystem("memory").pipe_file("/b/a.png", (shared / "real.png").read_bytes())
info = file_info("memory://b/a.png")
key = hashlib.sha256(f"memory://b/a.png\\t{info.size}\\t{info.version}".encode()).hexdigest()[:24]
theirs = shared / f"batchseg-cache-{victim}"
(theirs / key / "b").mkdir(parents=True)
(theirs / key / "b" / "a.png").write_bytes((shared / "planted.png").read_bytes())
(theirs / f"{key}.lock").symlink_to(shared / "victims")
for path in (theirs, *theirs.rglob("*")):
    os.chown(path, stranger, stranger, follow_symlinks=False)
theirs.chmod(0o777)
os.chown(shared / "victims", victim, victim)
os.setgid(victim), os.setuid(victim)
with open_raster("memory://b/a.png") as dataset:
    print(dataset.read(1)[0, 0])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
@pytest.mark.parametrize("victim", [0, 61_235], ids=["root", "user"])
def test_a_copy_that_another_user_planted_is_no_source(victim, shared):
    """Nor is a file of the victim's cut to nothing through a lock that is a link."""
    for name, value in (("real", 7), ("planted", 66)):
        write_raster(shared / f"{name}.png", np.full((1, 30, 40), value, np.uint8), driver="PNG")
    (shared / "victims").write_text("kept")
    environment = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, str(shared), str(victim), "61234"],
        env={**environment, "TMPDIR": str(shared)},
        text=True,
        capture_output=True,
    )
    assert done.stdout.strip() == "7", done.stderr
    assert (shared / "victims").read_text() == "kept"


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_a_lock_that_leads_to_another_file_stops_the_run(tmp_path, memory, cache, how):
    write_raster(tmp_path / "a.png", np.full((1, 30, 40), 5, np.uint8), driver="PNG")
    (uri,) = put(memory, tmp_path, "a.png")
    with open_raster(uri):
        pass
    (lock,) = cache.glob("*.lock")
    (tmp_path / "victims").write_text("kept")
    lock.unlink()
    getattr(lock, how)(tmp_path / "victims")
    with pytest.raises(StoppedError, match=r"the lock .*remove it"):
        open_raster(uri)
    assert (tmp_path / "victims").read_text() == "kept"


PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 4_600_000)
WORLD = "10\n0\n0\n-10\n500005\n4599995\n"
PAM = "<PAMDataset><GeoTransform>500000, 10, 0, 4600000, 0, -10</GeoTransform></PAMDataset>"
TAB = (
    '!table\nDefinition Table\n  File "r.tif"\n  Type "RASTER"\n'
    '  (500000,4600000) (0,0) Label "1",\n  (500400,4600000) (40,0) Label "2",\n'
    '  (500000,4599700) (0,30) Label "3"\n  CoordSys Earth Projection 8, 104, "m", 15, 0, 0.9996, 500000, 0\n'
)
POLYNOMIALS = "\n".join(
    [
        *("LINE_OFF: 15", "SAMP_OFF: 20", "LAT_OFF: 41", "LONG_OFF: 15", "HEIGHT_OFF: 0"),
        *("LINE_SCALE: 15", "SAMP_SCALE: 20", "LAT_SCALE: 0.1", "LONG_SCALE: 0.1", "HEIGHT_SCALE: 100"),
        *(
            f"{name}_COEFF_{number}: {number == 1:d}"
            for name in ("LINE_NUM", "LINE_DEN", "SAMP_NUM", "SAMP_DEN")
            for number in range(1, 21)
        ),
    ]
)


@pytest.mark.parametrize("whole", [0, 2**30], ids=["ranges", "copy"])
@pytest.mark.parametrize(
    ("raster", "driver", "sidecar", "text"),
    [
        ("r.tif", "GTiff", "r.TFW", WORLD),
        ("R.TIF", "GTiff", "R.TFW", WORLD),
        ("r.tif", "GTiff", "r.tifw", WORLD),
        ("r.tiff", "GTiff", "r.TIFFW", WORLD),
        ("r.tif", "GTiff", "r.Wld", WORLD),
        ("r.tif", "GTiff", "r.TAB", TAB),
        ("r.tif", "GTiff", "r.tif.aux.xml", PAM),
        ("r.tif", "GTiff", "r_RPC.TXT", POLYNOMIALS),
        ("r.tif", "GTiff", "r_rpc.txt", POLYNOMIALS),
        ("r.tif", "GTiff", "r.rpc", POLYNOMIALS),
        ("r.jpg", "JPEG", "r.jpgw", WORLD),
        ("r.JPG", "JPEG", "r.JGW", WORLD),
        ("r.jpeg", "JPEG", "r.jpegw", WORLD),
        ("r.png", "PNG", "r.pngw", WORLD),
        ("r.bmp", "BMP", "r.bpw", WORLD),
        ("r.gif", "GIF", "r.gfw", WORLD),
        ("r.jp2", "JP2OpenJPEG", "r.jp2w", WORLD),
    ],
)
def test_a_raster_in_a_bucket_has_the_place_that_it_has_on_a_disk(
    tmp_path, memory, cache, monkeypatch, whole, raster, driver, sidecar, text
):
    monkeypatch.setattr(open, "WHOLE_BYTES", whole)
    monkeypatch.setattr(open, "PAGE_BYTES", 100)
    pixels = np.random.default_rng(2).integers(1, 255, (1, 30, 40), dtype=np.uint8)
    write_raster(tmp_path / "in" / raster, pixels, driver=driver)
    (tmp_path / "in" / sidecar).write_text(text)
    put(memory, tmp_path / "in", raster, sidecar)
    ((local,), _), ((source,), _) = find(tmp_path / "in"), find("memory://b/in")
    assert len(source.files) == len(local.files) == 2
    places = []
    for each in (local, source):
        with gdal(), open_raster(each.uri, each.files) as dataset:
            places.append((dataset.transform, dataset.tags(ns="RPC"), dataset.gcps[0]))
    assert places[0] == places[1]
    assert places[0][0] == PLACE if text in (WORLD, PAM) else places[0][1] or not places[0][0].is_identity


@pytest.mark.parametrize("name", ["r.tif.MSK", "R.Ovr"])
def test_a_mask_of_another_format_is_refused_in_any_case_of_letters(tmp_path, name):
    path = write_raster(tmp_path / "r.tif", np.ones((1, 30, 40), np.uint8))
    (tmp_path / name).write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    (source,), _ = find(path)
    with pytest.raises(SourceError, match="beside it is no TIFF"):
        open_raster(source.uri, source.files)
