"""A web server that says nothing of its files beforehand: replies in chunks, without Content-Length."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path


class Chunked(http.server.SimpleHTTPRequestHandler):
    """Files of a folder. Of one whose name begins with `torn` the connection ends after the first chunk."""

    protocol_version = "HTTP/1.1"
    etag = False

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        path = self._answer()
        if path is None:
            return
        with contextlib.suppress(ConnectionError):  # who only asks leaves
            self._send(path)

    def _send(self, path: Path) -> None:
        data = path.read_bytes()
        for start in range(0, len(data), 1000):
            chunk = data[start : start + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if path.name.startswith("torn"):
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self) -> Path | None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if self.etag:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
        self.end_headers()
        return path

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def chunked_server(folder: Path, *, etag: bool) -> Iterator[str]:
    """Its address."""
    kind = type("Handler", (Chunked,), {"etag": etag})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
