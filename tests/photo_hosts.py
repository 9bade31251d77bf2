"""Web servers that photos are fetched from, honest and hostile, and one that nobody may reach."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from conftest import TOY_IMAGES

PHOTO = (TOY_IMAGES / "cat.jpg").read_bytes()
SECRET = b"the secret of the machine inside"


class PhotoHost(ThreadingHTTPServer):
    """Answers photos and tricks by path, over IPv4 and IPv6, and keeps the ``requests`` that it got.

    Of ``/redirect?to=URL`` URL is where it leads; each further ``&to=`` one more hop. ``held_most`` is
    how many asked for ``/held`` at the same time.
    """

    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self, port: int, certificate: Path | None = None, handler: Any = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.held = self.held_most = 0
        self.holding = threading.Lock()
        super().__init__(("::", port), handler or _Tricks)
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def server_bind(self) -> None:
        """Takes IPv4 too."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave in the middle are what is tested."""

    def close(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()


class SecretHost(PhotoHost):
    """Answers a photo with a secret in it to whoever reaches it."""

    def __init__(self, port: int) -> None:
        super().__init__(port, handler=_Secret)


def make_certificate(folder: Path, *names: str) -> Path:
    """A self-signed certificate for ``names`` with its key, in one PEM file."""
    file = folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
            *("-addext", "subjectAltName=" + ",".join(names)),
            *("-keyout", str(folder / "key.pem"), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (folder / "key.pem").read_text())
    return file


class _Handler(BaseHTTPRequestHandler):
    server: PhotoHost

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""

    def note(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)


class _Secret(_Handler):
    def do_GET(self) -> None:
        self.note()
        self.answer(200, {"Content-Type": "image/jpeg"}, PHOTO + SECRET)


class _Tricks(_Handler):
    def do_GET(self) -> None:
        self.note()
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        name = parts.path.strip("/").partition("/")[0]
        with suppress(OSError):
            getattr(self, f"do_{name.partition('.')[0]}", self.do_missing)(query)

    def do_photo(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Type": "text/html", "Content-Length": str(len(PHOTO))}, PHOTO)

    def do_held(self, query: dict[str, list[str]]) -> None:
        with self.server.holding:
            self.server.held += 1
            self.server.held_most = max(self.server.held, self.server.held_most)
        time.sleep(0.1)
        with self.server.holding:
            self.server.held -= 1
        self.do_photo(query)

    def do_missing(self, query: dict[str, list[str]]) -> None:
        self.answer(404, {}, SECRET)

    def do_redirect(self, query: dict[str, list[str]]) -> None:
        to, *further = query["to"]
        if further:
            to += "?" + "&".join(f"to={url}" for url in further)
        status = int(query.get("status", ["302"])[0])
        self.answer(status, {"Location": to, "Set-Cookie": "seen=1; Path=/"}, PHOTO)

    def do_loop(self, query: dict[str, list[str]]) -> None:
        self.answer(302, {"Location": "/loop"})

    def do_nowhere(self, query: dict[str, list[str]]) -> None:
        self.answer(302, {})

    def do_endless(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Type": "image/jpeg"}, PHOTO)
        while True:
            self.wfile.write(bytes(65536))

    def do_large(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Length": "99999999999"}, PHOTO)

    def do_digits(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Length": "9" * 5000}, PHOTO)

    def do_negative(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Length": "-1"}, PHOTO)

    def do_short(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Length": str(2 * len(PHOTO))}, PHOTO)

    def do_bomb(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Encoding": "gzip"}, gzip.compress(PHOTO + bytes(10_000_000)))

    def do_page(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Type": "image/jpeg"}, b"<html>" + SECRET)

    def do_drawing(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Type": "image/svg+xml"}, b"<svg>" + SECRET)

    def do_empty(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Type": "image/jpeg"})

    def do_drip(self, query: dict[str, list[str]]) -> None:
        self.answer(200, {"Content-Type": "image/jpeg"})
        for byte in PHOTO:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def do_headers(self, query: dict[str, list[str]]) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.wfile.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    def do_hints(self, query: dict[str, list[str]]) -> None:
        while True:
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            time.sleep(0.05)

    def do_silence(self, query: dict[str, list[str]]) -> None:
        time.sleep(5)

    def do_garbage(self, query: dict[str, list[str]]) -> None:
        self.wfile.write(SECRET + b"\r\n\r\n")
