"""Photographs that are read ahead are those that are read one by one."""

import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import encoded, listed, spotted

from batchseg.errors import SourceChangedError, SourceIOError
from batchseg.inputs.source import LISTING
from batchseg.pixels.photo import load as loading
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.load import (
    Loaded,
    content_digest,
    listed_digest,
    load,
    read_ahead,
    read_listed,
)


@pytest.fixture
def images(tmp_path) -> pa.Table:
    """Eleven photographs of several sizes; one is cut off, one is named as a problem by the listing."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(11):
        data = encoded(spotted(9 + number, 31 - number, seed=number))
        (folder / f"{number:02d}.png").write_bytes(data[:-20] if number == 4 else data)
    return listed(folder, **{"07_png": "its sidecar is missing"})


def told(photo: Loaded) -> tuple:
    picture = photo.picture
    pixels = None if picture is None else (picture.pixels.shape, picture.pixels.tobytes())
    return photo.row["source_id"], pixels, photo.content, photo.doubt


@pytest.mark.parametrize(
    ("readers", "files", "chunk_bytes", "decoded", "ahead"),
    [(1, 16, 2**22, 2**26, 2**25), (3, 2, 2**22, 2**26, 1), (2, 4, 1, 2**26, 2**25), (2, 5, 2**22, 1, 2**25)],
)
def test_nothing_depends_on_chunks_threads_or_memory(
    images, monkeypatch, readers, files, chunk_bytes, decoded, ahead
):
    expected = [told(load(row, with_content=True)) for row in images.to_pylist()]
    monkeypatch.setattr(loading, "CHUNK_FILES", files)
    monkeypatch.setattr(loading, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(loading, "DECODED_BYTES", decoded)
    monkeypatch.setattr(loading, "AHEAD_BYTES", ahead)
    assert [told(photo) for photo in read_ahead(images, readers=readers, with_content=True)] == expected
    assert [number for number, (_, pixels, *_) in enumerate(expected) if pixels is None] == [4, 7]


def test_a_photograph_comes_with_its_pixels_and_the_digest_of_its_file(images):
    row = images.to_pylist()[2]
    data = Path(row["uri"]).read_bytes()
    photo = load(row, with_content=True)
    np.testing.assert_array_equal(photo.picture.pixels, spotted(11, 29, seed=2))
    assert photo.content == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert load(row, with_content=False).content == ""


def test_what_is_in_doubt_says_why(images):
    cut, named = (load(images.to_pylist()[number], with_content=True) for number in (4, 7))
    assert named.doubt.reason == "its sidecar is missing"
    assert (cut.doubt.source_id, cut.doubt.transient, cut.content) == ("04.png", False, "")


def test_a_file_must_be_the_one_that_was_listed(images, tmp_path):
    gone, changed, sound = images.to_pylist()[:3]
    Path(gone["uri"]).unlink()
    with Path(changed["uri"]).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SourceChangedError, match="is gone"):
        read_listed(gone)
    with pytest.raises(SourceChangedError, match="changed while the run was going on"):
        read_listed(changed)
    with pytest.raises(SourceIOError, match="does not give the file: Is a directory"):
        read_listed(sound | {"uri": str(tmp_path)})
    assert read_listed(sound) == Path(sound["uri"]).read_bytes()


def test_a_file_that_cannot_be_a_photograph_is_not_read(tmp_path):
    path = tmp_path / "film.jpg"
    path.touch()
    os.truncate(path, 2**33)
    (row,) = listed(tmp_path).to_pylist()
    doubt = load(row, with_content=True).doubt
    assert doubt is not None
    assert "8,589,934,592 bytes" in doubt.reason
    assert not doubt.transient


def test_no_more_is_read_ahead_than_memory_allows(images, monkeypatch):
    begun, lock = [], threading.Lock()

    def noted(row):
        with lock:
            begun.append(row["source_id"])
        return read_listed(row)

    monkeypatch.setattr(loading, "read_listed", noted)
    monkeypatch.setattr(loading, "CHUNK_FILES", 1)
    monkeypatch.setattr(loading, "AHEAD_BYTES", 0)
    photos = read_ahead(images, readers=4, with_content=False)
    for number in range(3):
        assert next(photos).row["source_id"] == f"{number:02d}.png"
        assert len(begun) == number + 1
    photos.close()
    assert begun == ["00.png", "01.png", "02.png"]


def test_of_nothing_nothing_is_read():
    assert list(read_ahead(LISTING.empty_table(), readers=2, with_content=True)) == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3 * 2**20), max_size=40), st.sampled_from([1, 16]))
def test_a_chunk_ends_with_the_file_that_fills_it(sizes, files):
    rows = [
        dict.fromkeys(LISTING.names) | {"source_id": str(n), "size": size} for n, size in enumerate(sizes)
    ]
    chunks = list(loading._chunks(pa.Table.from_pylist(rows, schema=LISTING), files))
    assert [row["source_id"] for chunk in chunks for row in chunk] == [row["source_id"] for row in rows]
    for number, chunk in enumerate(chunks):
        nbytes = [row["size"] for row in chunk]
        assert len(chunk) <= files
        assert sum(nbytes[:-1]) < loading.CHUNK_BYTES
        if number < len(chunks) - 1:
            assert len(chunk) == files or sum(nbytes) >= loading.CHUNK_BYTES


def test_large_photographs_are_left_and_the_others_come(images):
    needed = []
    limits = Limits(has_room=lambda decoding, in_all: needed.append(in_all) or True)
    for row in images.to_pylist():
        load(row, with_content=False, limits=limits)
    share = sorted(needed)[4]
    photos = list(read_ahead(images, readers=2, with_content=False, share=share))
    large = [photo.row["source_id"] for photo in photos if photo.is_large]
    assert [photo.row["source_id"] for photo in photos] == images["source_id"].to_pylist()
    assert len(large) == sum(nbytes > share for nbytes in needed) > 0
    for photo in photos:
        assert not photo.is_large or (photo.picture, photo.doubt, photo.content) == (None, None, "")
    everything = list(read_ahead(images, readers=2, with_content=False, share=1))
    assert sum(photo.is_large for photo in everything) == 10


def test_a_large_file_is_not_read(images, monkeypatch):
    monkeypatch.setattr(loading, "read_listed", None)
    whole = images.slice(0, 3)
    photos = list(read_ahead(whole, readers=2, with_content=False, share=int(whole["size"][0].as_py()) // 2))
    assert [photo.is_large for photo in photos] == [True] * 3


@pytest.mark.parametrize("readers", [1, 4])
def test_what_is_read_ahead_shares_its_room_and_each_file_is_read_once(images, monkeypatch, readers):
    expected = [told(load(row, with_content=True)) for row in images.to_pylist()]
    read, lock = [], threading.Lock()

    def noted(row):
        with lock:
            read.append(row["source_id"])
        return read_listed(row)

    monkeypatch.setattr(loading, "read_listed", noted)
    monkeypatch.setattr(loading, "TOGETHER_BYTES", 1)
    monkeypatch.setattr(loading, "CHUNK_FILES", 3)
    found = list(read_ahead(images, readers=readers, with_content=True, share=20_000))
    assert [told(photo) for photo in found] == expected
    assert sorted(read) == [name for name in images["source_id"].to_pylist() if name != "07.png"]


def test_of_a_file_that_grew_no_more_is_read_than_shows_it(images):
    row = images.to_pylist()[0]
    os.truncate(row["uri"], 2**40)
    with pytest.raises(SourceChangedError):
        read_listed(row)


def test_the_digest_of_a_large_file_is_that_of_its_bytes(images, monkeypatch):
    rows = images.to_pylist()[:3]
    whole = [listed_digest(row) for row in rows]
    monkeypatch.setattr(loading, "CHUNK_BYTES", 7)
    assert [listed_digest(row) for row in rows] == whole
    assert whole[0] == content_digest(Path(rows[0]["uri"]).read_bytes())
    os.truncate(rows[0]["uri"], 2**40)
    Path(rows[1]["uri"]).unlink()
    for row, words in zip(rows, ("changed while", "is gone"), strict=False):
        with pytest.raises(SourceChangedError, match=words):
            listed_digest(row)
