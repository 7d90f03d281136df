"""A web server that serves a folder, and stalls for one of its files."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal


class StallingServer:
    """Serves on loopback until the process ends.

    Args:
        folder: its files, with ranges.
        stalls: part of the name for which a GET is accepted and not answered (`silent`), or answered in part
            (`midway`); HEAD is answered, so that the file is listed.
    """

    def __init__(self, folder: Path, *, stalls: str, how: Literal["silent", "midway"]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._headers(0, self._size(), 200)

            def do_GET(self) -> None:
                first, last = 0, self._size() - 1
                if asked := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                    first, last = int(asked[1]), min(last, int(asked[2] or last))
                stalled = stalls in self.path
                if stalled and how == "silent":
                    threading.Event().wait()
                self._headers(first, last + 1, 206 if asked else 200)
                data = self._path().read_bytes()[first : last + 1]
                self.wfile.write(data[: len(data) // 2] if stalled else data)
                if stalled:
                    threading.Event().wait()

            def _path(self) -> Path:
                return folder / self.path.rsplit("/", 1)[-1]

            def _size(self) -> int:
                return self._path().stat().st_size if self._path().is_file() else -1

            def _headers(self, first: int, stop: int, status: int) -> None:
                size = self._size()
                if size < 0:
                    self.send_error(404)
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(stop - first))
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("ETag", f'"{size:x}"')
                if status == 206:
                    self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{size}")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def uri(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"
