import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from stored import put

from batchseg.system import fetch
from batchseg.system.location import Location, join

DATA = bytes(range(256)) * 5


@pytest.fixture
def uri(root):
    put(join(root, "a b.bin"), DATA)
    return join(root, "a b.bin")


def test_parts_of_a_file_come_in_their_order(uri):
    assert fetch.read_ranges(uri, [1000, 0], [1280, 3]) == [DATA[1000:], DATA[:3]]
    assert fetch.read_tail(uri, 7) == DATA[-7:]
    assert fetch.read_tail(uri, 10**6) == DATA


def test_a_part_that_the_file_does_not_have_is_an_error(uri, hasty):
    with pytest.raises(OSError, match="asked for 20 bytes at 1270"):
        fetch.read_ranges(uri, [1270], [1290])


def test_the_checksum_is_that_of_the_content_also_in_pieces(uri, monkeypatch):
    monkeypatch.setattr(fetch, "PIECE_BYTES", 100)
    assert fetch.sha256(uri) == hashlib.sha256(DATA).hexdigest()


def test_a_copy_is_whole_or_an_error(uri, tmp_path, hasty):
    target = tmp_path / "new" / "copy"
    fetch.fetch(uri, target)
    assert target.read_bytes() == DATA
    with pytest.raises(OSError, match="has 7 bytes, the storage gave 1280"):
        fetch.fetch(uri, target, 7)


def test_readers_get_the_path_of_what_is_here_and_the_bytes_of_what_is_not(uri):
    found = fetch.path_or_bytes(uri)
    assert found == (Location.of(uri).path or DATA)


def test_many_come_in_the_order_of_their_addresses(root):
    uris = [join(root, name) for name in "cab"]
    for name, uri in zip("cab", uris, strict=True):
        put(uri, name.encode())
    assert fetch.read_many(uris) == [b"c", b"a", b"b"]
    assert fetch.read_many([]) == []


def test_what_is_not_there_is_an_error(root):
    for read in (fetch.read_bytes, fetch.open_file, lambda uri: fetch.read_tail(uri, 1), fetch.sha256):
        with pytest.raises(FileNotFoundError):
            read(join(root, "absent"))


@pytest.mark.parametrize("piece", [100, 10_000])
def test_a_file_is_read_on_and_sought_in(uri, monkeypatch, piece):
    monkeypatch.setattr(fetch, "PIECE_BYTES", piece)
    with fetch.open_file(uri) as file:
        assert b"".join(iter(lambda: file.read(77), b"")) == DATA
        file.seek(-5, 2)
        assert file.read(3) == DATA[-5:-2]
        file.seek(1000)
        assert file.tell() == 1000
        assert file.read() == DATA[1000:]
        file.seek(2000)
        assert file.read(1) == b""


def test_of_a_server_without_ranges_a_large_file_is_copied_to_the_disk(tmp_path, monkeypatch):
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    (tmp_path / "a.bin").write_bytes(DATA)
    monkeypatch.setattr(fetch, "PIECE_BYTES", 100)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with fetch.open_file(f"http://127.0.0.1:{server.server_port}/a.bin") as file:
            assert file.fileno()
            assert file.read() == DATA
    finally:
        server.shutdown()
        server.server_close()


def test_all_but_web_servers_give_parts(uri):
    assert fetch.gives_ranges(uri)
