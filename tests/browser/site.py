"""A web site of a test's own making, on a port of its own and so of another origin than the server's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Answers each path of ``files`` with its content type and its bytes, all others with 404."""

    url: str = ""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def add(self, path: str, content_type: str, content: bytes) -> str:
        """Serves ``content`` at ``path`` from now on; its address."""
        self.files[path] = (content_type, content)
        return self.url + path


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port, which ends with the block."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            known = path in site.files
            content_type, content = site.files.get(path, ("text/plain", b"not found"))
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the browser's own account of a failed request is in ``Watch``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
