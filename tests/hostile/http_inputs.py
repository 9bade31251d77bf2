"""Hostile requests over HTTP, each as the bytes that a client sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from .values import CONFUSING_IDS, JSON_VALUES, PATHS, TEXTS, as_json, bomb_photos, data_uri, odd_photos

__all__ = ["HttpInput", "bombs", "http_inputs"]

_JSON = (("Content-Type", "application/json"),)
_LINES = (("Content-Type", "application/x-ndjson"),)
_BOUNDARY = "line"
_FORM = (("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}"),)

_QUERY_FIELDS = (
    *("text", "image", "id", "expression", "terms", "like", "unlike", "modality", "top_k", "offset"),
    *("min_score", "filter", "hybrid", "group_duplicates", "return", "queries"),
)


@dataclass(frozen=True, slots=True)
class HttpInput:
    """One request: its kind, what it tries, and its bytes. ``broken`` ones are no HTTP: it may be closed."""

    kind: str
    name: str
    content: bytes
    broken: bool = False


def request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = _JSON,
    host: str = "127.0.0.1",
) -> bytes:
    """The bytes of a request, after which the server closes the connection."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A form of raw parts: what each header says after its name, and the content."""
    whole = b"".join(
        f"--{_BOUNDARY}\r\nContent-Disposition: {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return whole + (f"--{_BOUNDARY}--\r\n".encode() if end else b"")


def http_inputs(photo: bytes) -> Iterator[HttpInput]:
    """All of them but the bombs, the same each time; ``photo`` is a good JPEG."""
    yield from _search_bodies()
    yield from _filters()
    yield from _expressions()
    yield from _legacy_bodies()
    yield from _ids()
    yield from _parameters()
    yield from _headers()
    yield from _broken()
    yield from _photos(photo)
    yield from _lines()
    yield from _forms(photo)


def _search(kind: str, name: str, body: str) -> HttpInput:
    return HttpInput(kind, name, request("POST", "/v1/search", body.encode("utf-8", "surrogatepass")))


def _search_bodies() -> Iterator[HttpInput]:
    for field in _QUERY_FIELDS:
        asks = (
            ""
            if field in ("text", "image", "id", "expression", "terms", "like", "queries")
            else '"text": "a", '
        )
        for number, value in enumerate(JSON_VALUES):
            yield _search("body", f"search: {field} is value {number}", f'{{{asks}"{field}": {value}}}')
    for number, text in enumerate(TEXTS):
        yield _search("body", f"search: text {number}", f'{{"text": {as_json(text)}}}')
        yield _search("body", f"search: hybrid text {number}", f'{{"hybrid": true, "text": {as_json(text)}}}')
    for number, value in enumerate(JSON_VALUES):
        yield _search("body", f"search: whole body is value {number}", value)
    for path in PATHS:
        yield _search("body", f"search: image at {path}", json.dumps({"image": path}))
        yield _search("body", f"search: id at {path}", json.dumps({"id": path}))
    for number, raw in enumerate(
        (b"", b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b'{"text": "\xc3\x28"}', b"\0" * 99)
    ):
        yield HttpInput("body", f"search: bytes {number}", request("POST", "/v1/search", raw))
    yield _search("body", "search: a key twice", '{"text": "a", "text": "b"}')
    yield _search("body", "search: 65 queries", json.dumps({"queries": [{"text": "a"}] * 65}))
    most = [{"terms": [{"text": f"{n} {m}"} for m in range(16)]} for n in range(64)]
    yield _search("body", "search: 64 queries of 16 terms", json.dumps({"queries": most}))
    yield _search("body", "search: 500,000 commas", "[" + "0," * 600_000 + "0]")


def _filters() -> Iterator[HttpInput]:
    def deep(levels: int, connective: str) -> str:
        if connective == "$not":
            return '{"$not":' * levels + '{"a":1}' + "}" * levels
        return f'{{"{connective}":[' * levels + '{"a":1}' + "]}" * levels

    filters = [
        *(deep(levels, name) for levels in (16, 17, 900, 20_000) for name in ("$and", "$or", "$not")),
        *(
            f'{{"a": {{"{name}": {value}}}}}'
            for name in ("$in", "$gte", "$exists", "$regex", "$where", "")
            for value in JSON_VALUES[:20]
        ),
        *(f"{{{as_json(text)}: 1}}" for text in TEXTS),
        *(f'{{"place": {as_json(text)}}}' for text in TEXTS),
        json.dumps({"$or": [{"a": n} for n in range(5000)]}),
        json.dumps({"a": {"$in": list(range(5000))}}),
        json.dumps({"a": {"$gte": 5, "$lte": 1}}),
        '{"$and": []}',
        '{"$or": {}}',
        '{"modality": "sound"}',
    ]
    for number, text in enumerate(filters):
        yield _search("filter", f"filter {number}", f'{{"text": "a", "filter": {text}}}')


def _expressions() -> Iterator[HttpInput]:
    expressions = (
        *("+", "-", "*", "+ +", "- - -", "1*", "*a", "0*a", "1e9*a", "-1*a", "nan*a", "inf*a", "1e-400*a"),
        *('"', '"a', 'a"', '"a" "b"', '"\\', '"\\"', "id:", 'id:"', 'id:""', "id:x id:y", "id:id:id:"),
        *(
            "a + " * 15 + "a",
            "a + " * 16 + "a",
            "a + " * 5000 + "a",
            "(" * 5000,
            "-" * 5000,
            "9" * 5000 + "*a",
        ),
        *("a - a", "1*1*a", "٣*a", "a +\u00a0b", "a\u2212b", "\t\n+\r", "0x10*a", "1_0*a", "²*a", "+1*-a"),
        *(text for text in TEXTS),
    )
    for number, text in enumerate(expressions):
        yield _search("expression", f"expression {number}", f'{{"expression": {as_json(text)}}}')


def _legacy_bodies() -> Iterator[HttpInput]:
    for path in ("/search", "/post", "/index", "/update", "/delete"):
        for field in ("data", "docs", "top_k", "parameters", "ids", "exec_endpoint", "mode", "request_id"):
            for number, value in enumerate(JSON_VALUES[:: 3 if field in ("data", "docs") else 6]):
                body = f'{{"{field}": {value}}}'.encode()
                yield HttpInput("legacy", f"{path}: {field} is value {number}", request("POST", path, body))
    for place in PATHS:
        for body in (
            {"data": [place]},
            {"data": [{"uri": place}]},
            {"data": [{"blob": place, "mime_type": "image/png"}]},
        ):
            content = json.dumps({**body, "top_k": 3}).encode()
            yield HttpInput(
                "legacy", f"/search: {place} in {next(iter(body))}", request("POST", "/search", content)
            )


def _ids() -> Iterator[HttpInput]:
    for id in CONFUSING_IDS:
        for method, path in (
            ("GET", f"/v1/documents/{id}"),
            ("GET", f"/v1/documents/{id}/content"),
            ("DELETE", f"/v1/documents/{id}"),
            ("GET", f"/images/{id}"),
            ("GET", f"/page/{id}"),
        ):
            yield HttpInput("id", f"{method} {path[:60]}", request(method, path), broken="x" * 8000 in path)


def _parameters() -> Iterator[HttpInput]:
    values = (
        "",
        "-1",
        "0",
        "1.5",
        "1e9",
        "9" * 400,
        "%00",
        "%ff",
        "null",
        "[]",
        "a&limit=2",
        "%D9%A3",
        "true",
    )
    for name in ("limit", "after", "modality", "captions", "x"):
        for value in values:
            yield HttpInput("id", f"?{name}={value[:20]}", request("GET", f"/v1/documents?{name}={value}"))
    yield HttpInput(
        "id", "1,000 parameters", request("GET", "/v1/documents?" + "&".join(f"a{n}=1" for n in range(1000)))
    )
    yield HttpInput(
        "id", "a query of 60,000 bytes", request("GET", "/v1/status?" + "a" * 60_000), broken=True
    )


def _headers() -> Iterator[HttpInput]:
    values = (
        "",
        "x" * 4000,
        "é",
        "\udcff",
        'a, b; c="',
        "../..",
        "0",
        "-1",
        "9" * 30,
        "*/*;q=nan",
        "null",
        "text/html",
    )
    names = ("Content-Type", "Accept", "Accept-Encoding", "If-None-Match", "Range", "Origin", "X-Request-Id")
    names += (
        "X-Envelope",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "Expect",
        "Traceparent",
        "Sec-Fetch-Site",
    )
    for name in names:
        for value in values:
            content = request("POST", "/v1/search", b'{"text": "a"}', ((name, value),))
            yield HttpInput("header", f"{name}: {value[:20]!a}", content, broken=name == "Expect")
    for host in (
        "",
        "a b",
        "a" * 4000,
        "evil.example",
        "127.0.0.1:99999",
        "[::1",
        "a@b",
        "é",
        "a,b",
        "127.0.0.1\\x",
    ):
        yield HttpInput(
            "header", f"Host: {host[:20]!a}", request("GET", "/v1/status", host=host), broken=True
        )
    many = tuple((f"X-{n}", "a") for n in range(2000))
    yield HttpInput("header", "2,000 headers", request("GET", "/v1/status", b"", many), broken=True)
    for boundary in ("", '""', "a" * 300, "é", 'a"b', "line; boundary=other", "\x7f"):
        form_type = (("Content-Type", f"multipart/form-data; boundary={boundary}"),)
        yield HttpInput(
            "header", f"boundary {boundary[:20]!a}", request("POST", "/v1/documents", form(), form_type)
        )


def _broken() -> Iterator[HttpInput]:
    body = b'{"text": "a"}'
    head = b"POST /v1/search HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    for name, content in {
        "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "HTTP/0.9": b"GET /\r\n\r\n",
        "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "an unknown method": b"BREW /pot HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "an absolute target": b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "two lengths": head + b"Content-Length: 13\r\nContent-Length: 5\r\n\r\n" + body,
        "a length and chunks": head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a negative length": head + b"Content-Length: -5\r\n\r\n" + body,
        "a length that is no number": head + b"Content-Length: abc\r\n\r\n" + body,
        "a length beyond 64 bits": head + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n" + body,
        "chunks": chunked + b"d\r\n" + body + b"\r\n0\r\n\r\n",
        "a chunk of no size": chunked + b"\r\n" + body,
        "a chunk of a wrong size": chunked + b"zz\r\n" + body + b"\r\n0\r\n\r\n",
        "a chunk beyond 64 bits": chunked + b"f" * 20 + b"\r\n" + body,
        "a trailer": chunked + b"d\r\n" + body + b"\r\n0\r\nContent-Type: text/html\r\n\r\n",
        "a header without a name": head + b": a\r\nContent-Length: 13\r\n\r\n" + body,
        "a folded header": head + b"X-A: a\r\n b\r\nContent-Length: 13\r\n\r\n" + body,
        "a zero byte in a header": head + b"X-A: a\0b\r\nContent-Length: 13\r\n\r\n" + body,
        "no host": b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b c\r\nConnection: close\r\n\r\n",
        "bytes in a path": b"GET /\xff\xfe\xed\xa0\x80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "a space in a path": b"GET /a b c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "an upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "a smuggled request": head
        + b"Content-Length: 13\r\n\r\n"
        + body
        + b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
    }.items():
        yield HttpInput("protocol", name, content, broken=True)


def _photos(photo: bytes) -> Iterator[HttpInput]:
    for name, content in odd_photos(photo):
        yield _photo_in_json("photo", name, content)
        parts = form(('form-data; name="image"; filename="x.png"', content))
        yield HttpInput("photo", f"{name}, as a file", request("POST", "/v1/search", parts, _FORM))
        parts = form(('form-data; name="file"; filename="x.png"', content))
        yield HttpInput("upload", name, request("POST", "/v1/documents", parts, _FORM))
    for uri in (
        "data:",
        "data:,",
        "data:image/png;base64",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,AAA",
    ):
        yield _search("photo", uri, json.dumps({"image": uri}))
    yield _search(
        "photo", "a header of 100,000", json.dumps({"image": "data:image/" + "p" * 100_000 + ";base64,AA=="})
    )


def bombs() -> Iterator[HttpInput]:
    """Photos that are small until they are decoded: each alone, and all in one upload."""
    for name, content in bomb_photos():
        yield _photo_in_json("bomb", name, content)
    parts = [(f'form-data; name="file"; filename="{name}.png"', content) for name, content in bomb_photos()]
    yield HttpInput("bomb", "all in one upload", request("POST", "/v1/documents", form(*parts), _FORM))


def _photo_in_json(kind: str, name: str, content: bytes) -> HttpInput:
    return _search(kind, name, json.dumps({"image": data_uri(content)}))


def _lines() -> Iterator[HttpInput]:
    for field in ("id", "text", "image", "tags", "captions", "photo_id", "uri"):
        beside = "" if field in ("text", "image") else '"text": "a", '
        for number, value in enumerate(JSON_VALUES):
            line = f'{{{beside}"{field}": {value}}}\n'.encode()
            kind = "tags" if field == "tags" else "upload"
            sent = request("POST", "/v1/documents", line, _LINES)
            yield HttpInput(kind, f"line: {field} is value {number}", sent)
    for number, text in enumerate(TEXTS):
        line = f'{{"text": "a", "tags": {{{as_json(text)}: {as_json(text)}}}}}\n'.encode()
        yield HttpInput(
            "tags", f"text {number} as name and value", request("POST", "/v1/documents", line, _LINES)
        )
    many = json.dumps({"text": "a", "tags": {f"tag{n}": n for n in range(10_000)}}).encode()
    yield HttpInput("tags", "10,000 tags", request("POST", "/v1/documents", many, _LINES))
    large = json.dumps({"text": "a", "tags": {"a": "x" * (2 << 20)}}).encode()
    yield HttpInput("tags", "a tag of 2 MB", request("POST", "/v1/documents", large, _LINES))
    for name, raw in {
        "nothing": b"",
        "empty lines": b"\n" * 100_000,
        "spaces": b" " * 1_000_000,
        "no JSON": b"text\n" * 50,
        "numbers": b"1\n2\n3\n",
        "bytes": bytes(range(256)),
        "12,000 documents that are none": b"{}\n" * 12_000,
        "the same id twice": b'{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}\n',
    }.items():
        yield HttpInput("upload", f"lines: {name}", request("POST", "/v1/documents", raw, _LINES))


def _forms(photo: bytes) -> Iterator[HttpInput]:
    file = 'form-data; name="file"; filename="{}"'
    for name in (
        *PATHS,
        *(quote(text[:200], errors="surrogatepass") for text in TEXTS),
        "x" * 5000,
        "con",
        ".",
        "a.svg",
        "a.html",
    ):
        parts = form((file.format(name.replace('"', "%22")), b"no photo"))
        yield HttpInput(
            "upload", f"a file called {name[:30]}", request("POST", "/v1/documents", parts, _FORM)
        )
    for number, value in enumerate(JSON_VALUES):
        parts = form(('form-data; name="metadata"', value.encode()), (file.format("x.jpg"), b"no photo"))
        yield HttpInput(
            "upload", f"metadata is value {number}", request("POST", "/v1/documents", parts, _FORM)
        )
        files = f'{{"files": {{"x.jpg": {value}}}}}'.encode()
        parts = form(('form-data; name="metadata"', files), (file.format("x.jpg"), b"no photo"))
        yield HttpInput(
            "upload", f"metadata of a file is value {number}", request("POST", "/v1/documents", parts, _FORM)
        )
    good = (file.format("x.jpg"), photo)
    for name, body in {
        "no parts": form(),
        "nothing": b"",
        "no end": form(good, end=False),
        "an unknown field": form(('form-data; name="exec"', b"a")),
        "a part without a name": form(("form-data", b"a")),
        "no disposition": f"--{_BOUNDARY}\r\n\r\na\r\n--{_BOUNDARY}--\r\n".encode(),
        "a header without an end": f"--{_BOUNDARY}\r\nContent-Disposition: ".encode() + b"a" * 100_000,
        "5,000 parts": form(*[(file.format(n), b"") for n in range(5000)]),
        "metadata after the file": form(good, ('form-data; name="metadata"', b"{}")),
        "metadata twice": form(*[('form-data; name="metadata"', b"{}")] * 2, good),
        "another encoding": form((file.format("x") + "\r\nContent-Transfer-Encoding: base64", b"AA==")),
        "only boundaries": f"--{_BOUNDARY}\r\n".encode() * 5000,
    }.items():
        yield HttpInput("upload", f"form: {name}", request("POST", "/v1/documents", body, _FORM))
