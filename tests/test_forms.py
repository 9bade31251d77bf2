"""Forms with files are read as they arrive, whatever the pieces, and one part is held at a time."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from crossmodal.errors import RequestError
from crossmodal.server import guards
from crossmodal.server.forms import Form, FormFile, FormText, form_parts, media_type_of, read_form

BOUNDARY = "a-boundary-a"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
TEXTS = {"request", "metadata"}
FILES = {"image", "file"}


def part(field: str, content: bytes, name: str | None = None) -> bytes:
    """One part as browsers send it."""
    disposition = f'form-data; name="{field}"'
    if name is not None:
        escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        disposition += f'; filename="{escaped}"'
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def request_of(chunks: Iterable[bytes], content_type: str = CONTENT_TYPE) -> Request:
    waiting = iter(chunks)

    async def receive() -> dict[str, object]:
        chunk = next(waiting, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def whole(body: bytes, content_type: str = CONTENT_TYPE) -> Form:
    return asyncio.run(read_form(request_of([body], content_type), TEXTS, FILES))


async def collected(parts: AsyncIterator[FormFile | FormText]) -> list[FormFile | FormText]:
    return [part async for part in parts]


file_names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\%"), max_size=12)
# Much of what could be mistaken for the end of a part.
contents = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--", BOUNDARY[:5].encode(), b"\0\xff", b"data"]),
    max_size=12,
).map(b"".join)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(FILES)), contents, file_names), max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_the_parts_do_not_depend_on_how_the_body_is_cut(
    sent: list[tuple[str, bytes, str]], sizes: list[int]
) -> None:
    body = part("metadata", "{ä}".encode()) + b"".join(part(*one) for one in sent) + END

    def chunks() -> Iterator[bytes]:
        start = number = 0
        while start < len(body):
            size = sizes[number % len(sizes)]
            yield body[start : start + size]
            start, number = start + size, number + 1

    found = asyncio.run(collected(form_parts(request_of(chunks()), TEXTS, FILES)))
    assert found == [
        FormText("metadata", "{ä}"),
        *(FormFile(field, name, content) for field, content, name in sent),
    ]


MALFORMED: dict[str, tuple[bytes, str, int, str]] = {
    "no boundary": (b"", "multipart/form-data", 400, "boundary"),
    "a long boundary": (END, "multipart/form-data; boundary=" + "x" * 300, 400, "Boundary length 300"),
    "another boundary": (END, "multipart/form-data; boundary=b", 400, "cannot be read"),
    "not a form": (b"hello", CONTENT_TYPE, 400, "cannot be read"),
    "nothing": (b"", CONTENT_TYPE, 400, "after 0 bytes"),
    "cut off": (part("file", b"12345", "a.jpg")[:-4], CONTENT_TYPE, 400, "cut off"),
    "no last boundary": (part("file", b"12345", "a.jpg"), CONTENT_TYPE, 400, "cut off"),
    "no disposition": (f"--{BOUNDARY}\r\n\r\nabc\r\n".encode() + END, CONTENT_TYPE, 400, "Disposition"),
    "an unknown field": (
        part("photo", b"1", "a.jpg") + END,
        CONTENT_TYPE,
        422,
        "'photo'; there are file, image, metadata, request",
    ),
    "a text twice": (part("request", b"{}") * 2 + END, CONTENT_TYPE, 422, "two parts 'request'"),
    "not UTF-8": (part("request", b"\xff{}") + END, CONTENT_TYPE, 400, "not UTF-8 at byte 0"),
    "a long header": (
        part("file", b"1", "a" * 5000) + END,
        CONTENT_TYPE,
        400,
        "header size exceeded",
    ),
    "base64": (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n'.encode()
        + b"Content-Transfer-Encoding: base64\r\n\r\nYQ==\r\n"
        + END,
        CONTENT_TYPE,
        400,
        "'base64'",
    ),
    "too many parts": (part("image", b"1", "a.jpg") * 257 + END, CONTENT_TYPE, 413, "the limit is 256"),
    "a large text": (part("request", bytes((8 << 20) + 1)) + END, CONTENT_TYPE, 413, "8 MiB"),
    "a large file": (
        part("image", bytes(65 << 20), "a.jpg") + END,
        CONTENT_TYPE,
        413,
        "65.0 MiB; the limit is 64 MiB",
    ),
    "a large form": (part("image", bytes(30 << 20), "a.jpg") * 3 + END, CONTENT_TYPE, 413, "88 MiB"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_cannot_be_read_is_a_sentence(name: str) -> None:
    body, content_type, status, words = MALFORMED[name]
    with pytest.raises(RequestError, match=r".") as refused:
        whole(body, content_type)
    assert refused.value.status == status
    assert words in str(refused.value)


def test_a_file_that_is_too_large_leaves_the_next_one_alone() -> None:
    body = part("file", bytes(65 << 20), "large.jpg") + part("file", b"small", "small.jpg") + END
    large, small = asyncio.run(collected(form_parts(request_of([body]), TEXTS, FILES)))
    assert isinstance(large, FormFile)
    assert large.content == b""
    assert "the limit is 64 MiB" in str(large.refused)
    assert small == FormFile("file", "small.jpg", b"small")


def test_one_part_is_held_at_a_time() -> None:
    size, number = 1 << 20, 40

    def chunks() -> Iterator[bytes]:
        for _ in range(number):
            one = part("file", bytes(size), "a.jpg")
            yield from (one[start : start + 65536] for start in range(0, len(one), 65536))
        yield END

    async def read() -> int:
        return sum([len(one.content) async for one in form_parts(request_of(chunks()), TEXTS, FILES)])  # type: ignore[union-attr]

    tracemalloc.start()
    try:
        assert asyncio.run(read()) == size * number
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A part, what it is made of, and the next one's beginning; all parts would be 40.
    assert peak < 8 * size


def test_a_client_that_falls_silent_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "_SILENCE_SECONDS", 0.05)

    async def never() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    headers = [(b"content-type", CONTENT_TYPE.encode())]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, never)
    with pytest.raises(RequestError, match="Nothing of the request came") as refused:
        asyncio.run(read_form(request, TEXTS, FILES))
    assert refused.value.status == 408


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Application/JSON; charset=utf-8", "application/json"),
        (CONTENT_TYPE, "multipart/form-data"),
        ("", ""),
    ],
)
def test_the_media_type_has_no_parameters(header: str, expected: str) -> None:
    assert media_type_of(request_of([], header)) == expected
