import io
import os
import random
import re
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import write_raster

from batchseg.system import archives, fetch
from batchseg.system.archives import DamagedError, find, gdal_path, is_member, member_uri, members, read
from batchseg.system.file_info import file_info

CONTENT = {"a.txt": b"hello", "d/b.bin": bytes(range(256)) * 500, "empty": b""}


def packed(path: Path, content=CONTENT, method=zipfile.ZIP_DEFLATED) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as target:
            for name, data in content.items():
                target.writestr(name, data)
    else:
        with tarfile.open(path, "w") as target:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                target.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "X y, {1}.TAR", "x.SAFE.ZIP"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_files_like_others(tmp_path, name, method):
    path = packed(tmp_path / "x.zip" if name.lower().endswith("zip") else tmp_path / "x.tar", method=method)
    path = path.rename(tmp_path / name)
    assert {found: member.size for found, member in members(str(path)).items()} == {
        found: len(data) for found, data in CONTENT.items()
    }
    for found, data in CONTENT.items():
        uri = member_uri(str(path), found)
        assert is_member(uri)
        assert fetch.read_bytes(uri) == read(uri) == data
        assert fetch.read_tail(uri, 3) == data[-3:]
        assert fetch.read_ranges(uri, [1, 300], [4, 999999]) == [data[1:4], data[300:]]
        info = file_info(uri)
        assert info is not None and (info.uri, info.size) == (uri, len(data))
        assert info.modified == pytest.approx(path.stat().st_mtime, abs=1e-5)
    assert file_info(member_uri(str(path), "other")) is None
    with pytest.raises(FileNotFoundError):
        read(member_uri(str(path), "other"))


def test_another_version_of_an_archive_is_seen(tmp_path):
    path = packed(tmp_path / "x.tar")
    uri = member_uri(str(path), "a.txt")
    before = file_info(uri)
    packed(path, {"a.txt": b"other"})
    os.utime(path, (1e9, 1e9))
    after = file_info(uri)
    assert before is not None and after is not None and before.version != after.version
    assert read(uri) == b"other"
    path.unlink()
    assert file_info(uri) is None


def test_a_file_that_is_called_like_a_member_is_that_file(tmp_path):
    packed(tmp_path / "x.zip", {"a": b"in the archive"})
    (tmp_path / "x.zip!").mkdir()
    (tmp_path / "x.zip!" / "a").write_bytes(b"beside it")
    assert fetch.read_bytes(f"{tmp_path}/x.zip!/a") == b"beside it"
    for uri in ("/a/x.zip", "/a/x.zip!", "/a/x.zip!/", "/a!/x", "s3://b/x.zip!/a", "/a/x.zipped!/a"):
        assert not is_member(uri)


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../up", "/abs", "a/../b", "a//b", "./../x", "a\x01b", "..", "x" * 5000])
def test_names_that_lead_out_are_no_members(tmp_path, ending, name):
    path = packed(tmp_path / f"x.{ending}", {name: b"1", "good": b"2"})
    assert list(members(str(path))) == ["good"]
    assert file_info(member_uri(str(path), name)) is None


def test_links_and_devices_are_no_members(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as target:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"n{kind!r}")
            info.type, info.linkname = kind, "/etc/passwd"
            target.addfile(info)
    assert members(str(path)) == {}
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as target:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        target.writestr(link, "/etc/passwd")
    assert members(str(path)) == {}


def test_dot_slash_is_no_part_of_a_name(tmp_path):
    path = packed(tmp_path / "x.tar", {"./a/b": b"1"})
    assert list(members(str(path))) == ["a/b"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.zip", b"", "damaged"),
        ("x.zip", b"PK\x03\x04" + b"x" * 99, "damaged"),
        ("x.tar", b"x" * 2048, "damaged"),
        ("x.tar", b"\x1f\x8b" + b"x" * 2048, "damaged"),
    ],
)
def test_what_is_no_archive_says_so(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DamagedError, match=words):
        members(str(tmp_path / name))
    assert find(f"{tmp_path}/{name}!/a") is None


def test_encrypted_unusual_and_doubled_members_are_refused(tmp_path):
    path = packed(tmp_path / "x.zip", {"a": b"secret"})
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="is encrypted; unpack it"):
        members(str(path))
    packed(tmp_path / "l.zip", method=zipfile.ZIP_LZMA)
    with pytest.raises(DamagedError, match="packed by method 14, which is not read"):
        members(str(tmp_path / "l.zip"))
    for ending in ("zip", "tar"):
        path = tmp_path / f"d.{ending}"
        if ending == "zip":
            with zipfile.ZipFile(path, "w") as target, pytest.warns(UserWarning, match="Duplicate"):
                target.writestr("a", b"1")
                target.writestr("a", b"2")
        else:
            with tarfile.open(path, "w") as target:
                target.addfile(tarfile.TarInfo("a"))
                target.addfile(tarfile.TarInfo("a"))
        with pytest.raises(DamagedError, match="holds 'a' twice"):
            members(str(path))


def test_archives_that_are_cut_off_or_changed_anywhere_raise_nothing_else(tmp_path):
    rng = random.Random(5)
    for ending, method in (("zip", zipfile.ZIP_STORED), ("zip", zipfile.ZIP_DEFLATED), ("tar", 0)):
        data = packed(tmp_path / f"x.{ending}", {"a": b"hello" * 9, "b/c": b"x" * 700}, method).read_bytes()
        for number in range(300):
            hurt = bytearray(data[: rng.randrange(len(data))] if number % 3 == 0 else data)
            for _ in range(rng.randrange(1, 5) if hurt else 0):
                hurt[rng.randrange(len(hurt))] = rng.randrange(256)
            path = tmp_path / f"{number}-{method}.{ending}"
            path.write_bytes(hurt)
            try:
                found = members(str(path))
            except DamagedError as e:
                assert str(e)
                continue
            for name, member in found.items():
                try:
                    assert len(read(member_uri(str(path), name))) <= member.size
                except DamagedError as e:
                    assert str(e)


def test_claims_take_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 2000)
    monkeypatch.setattr(archives, "TABLE_BYTES", 2000)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 50)
    path = packed(tmp_path / "many.tar", {f"n{n}": b"" for n in range(60)})
    with pytest.raises(DamagedError, match="more than 50"):
        members(str(path))
    path = packed(tmp_path / "many.zip", {f"n{n}": b"" for n in range(60)})
    with pytest.raises(DamagedError, match="table of contents is too large"):
        members(str(path))
    path = packed(tmp_path / "bomb.zip", {"zeros": bytes(5000)})
    with pytest.raises(DamagedError, match="5,000 bytes, at most 2,000"):
        read(f"{path}!/zeros")
    assert read(f"{path}!/zeros", 4000, 4010) == bytes(10)
    long = tarfile.TarInfo("x" * 5000)
    with tarfile.open(tmp_path / "long.tar", "w", format=tarfile.PAX_FORMAT) as target:
        target.addfile(long)
    with pytest.raises(DamagedError, match="too large"):
        members(str(tmp_path / "long.tar"))


def test_a_member_that_ends_behind_its_archive_is_damage(tmp_path):
    path = packed(tmp_path / "x.tar", {"a": b"1" * 4000})
    path.write_bytes(path.read_bytes()[:2048])
    with pytest.raises(DamagedError, match="damaged"):
        members(str(path))
    path = packed(tmp_path / "x.zip", {"a": b"1" * 100}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<LL", 9000, 9000)
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="'a' is cut off"):
        members(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_changed_byte_of_a_zips_member_is_seen_once_it_is_read_through(tmp_path, method):
    whole = random.Random(3).randbytes(400) + bytes(300)
    data = packed(tmp_path / "x.zip", {"a": whole}, method).read_bytes()
    begin, end = data.find(b"a") + 1, data.find(b"PK\x01\x02")
    unseen = 0
    for at in range(begin, end):
        hurt = bytearray(data)
        hurt[at] ^= 0xFF
        path = tmp_path / f"{at}.zip"
        path.write_bytes(hurt)
        try:
            archives.check(f"{path}!/a")
        except DamagedError as e:
            assert re.match("bad CRC in a: .*fetch the archive again$|'a' cannot be unpacked", str(e))
            with pytest.raises(DamagedError):
                read(f"{path}!/a")
        else:  # bits behind the last byte's
            assert read(f"{path}!/a") == whole
            unseen += 1
    assert unseen <= (1 if method == zipfile.ZIP_DEFLATED else 0)
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    archives.check(f"{path}!/a")


def test_what_was_read_through_is_not_read_again(tmp_path):
    path = packed(tmp_path / "x.zip")
    uri = f"{path}!/d/b.bin"
    archives.check(uri)
    before = archives._check.cache_info()
    archives.check(uri)
    assert archives._check.cache_info().misses == before.misses
    os.utime(path, (1e9, 1e9))
    archives.check(uri)
    assert archives._check.cache_info().misses == before.misses + 1
    archives.check(f"{packed(tmp_path / 'x.tar')}!/d/b.bin")
    with pytest.raises(FileNotFoundError):
        archives.check(f"{path}!/other")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, "s", "d"])
def test_gdal_reads_members_by_their_path(tmp_path, form):
    scene = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)
    inside = "S2A.SAFE/GRANULE/" + "L2A_T33UUU/" * 12 + "a.tif"
    raster = write_raster(tmp_path / "a.tif", scene)
    if isinstance(form, str):
        path = packed(tmp_path / "x, y.zip", {inside: raster.read_bytes()}, {"s": 0, "d": 8}[form])
    else:
        path = tmp_path / "x, y.tar"
        with tarfile.open(path, "w", format=form) as target:
            target.add(raster, inside)
    with rasterio.open(gdal_path(members(str(path))[inside])) as dataset:
        assert (dataset.read() == scene).all()


def test_a_brace_in_the_path_of_a_packed_member_is_refused(tmp_path):
    path = packed(tmp_path / "x{1}.zip", {"a": b"1" * 99, "b": b""})
    with pytest.raises(DamagedError, match="a brace"):
        gdal_path(members(str(path))["a"])
    path = packed(tmp_path / "y{1}.zip", {"a": b"1" * 99}, zipfile.ZIP_STORED)
    assert gdal_path(members(str(path))["a"]).startswith("/vsisubfile/")
