"""batchseg.system.s3_session: what a server sees of a PUT, and when a client is made."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from stored import put

from batchseg.system.s3_session import ASKED_BYTES


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.puts: list[tuple[int, str | None]] = []
        """Length of the body, and whether the client waited before it sent it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        length = int(self.headers.get("X-Amz-Decoded-Content-Length") or self.headers["Content-Length"])
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.puts.append((length, self.headers["Expect"]))
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    made = _Server()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    options = {"endpoint_url": f"http://127.0.0.1:{made.server_port}", "key": "k", "secret": "s"}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    yield made
    made.shutdown()
    made.server_close()


def test_only_large_bodies_wait_to_be_asked_for(server):
    for nbytes in (0, 100, ASKED_BYTES - 1, ASKED_BYTES, ASKED_BYTES + 1):
        put(f"s3://bucket/{nbytes}.bin", b"x" * nbytes)
    assert [length for length, waits in server.puts if not waits] == [0, 100, ASKED_BYTES - 1]
    assert [length for length, waits in server.puts if waits] == [ASKED_BYTES, ASKED_BYTES + 1]
