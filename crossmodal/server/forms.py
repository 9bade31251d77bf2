"""Forms with files (multipart/form-data, RFC 7578), read as they arrive: one part in memory at a time."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.http_shapes.values import shown
from crossmodal.server.guards import body_chunks

__all__ = ["FORM_TYPE", "Form", "FormFile", "FormText", "form_parts", "media_type_of", "read_form"]

FORM_TYPE = "multipart/form-data"

# Browsers escape these three, and nothing else, in names of fields and files (WHATWG, multipart/form-data).
_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
_ESCAPES = re.compile("|".join(_ESCAPED), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FormFile:
    """One file of a form: the form's ``field``, the file's ``name`` ("" if it has none) and its bytes.

    ``refused`` is a sentence where the file is too large; ``content`` is empty then.
    """

    field: str
    name: str
    content: bytes
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class FormText:
    """One text of a form."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Form:
    """A whole form: its texts by field, and its files in the order in which they came."""

    texts: dict[str, str] = field(default_factory=dict)
    files: list[FormFile] = field(default_factory=list)


def media_type_of(request: Request) -> str:
    """The media type of the request's body in lower case, without parameters; "" if it has none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(
    request: Request,
    texts: AbstractSet[str],
    files: AbstractSet[str],
    *,
    max_file_bytes: int = limits.PHOTO.most,
) -> Form:
    """The form that the request carries; ``texts`` and ``files`` name the fields that it may have.

    Raises RequestError as ``form_parts`` does, and with status 413 where the form has more bytes than
    the limits allow, too many parts or a file that is too large.
    """
    form = Form()
    parts = 0
    async for part in form_parts(
        request, texts, files, limit=limits.BODY.most, max_file_bytes=max_file_bytes
    ):
        parts += 1
        # Each part costs memory, however small it is.
        if parts > limits.FORM_PARTS.most:
            raise RequestError(limits.FORM_PARTS.exceeded("The form", parts), 413)
        if isinstance(part, FormFile):
            if part.refused is not None:
                raise RequestError(part.refused, status=413)
            form.files.append(part)
        elif part.field in form.texts:
            raise RequestError(f"The form has two parts {part.field!r}; send one.", status=422)
        else:
            form.texts[part.field] = part.value
    return form


async def form_parts(
    request: Request,
    texts: AbstractSet[str],
    files: AbstractSet[str],
    *,
    limit: int | None = None,
    max_file_bytes: int = limits.PHOTO.most,
) -> AsyncIterator[FormFile | FormText]:
    """The parts of a form, each as soon as it has arrived; the bytes of one part at a time are held.

    ``texts`` and ``files`` name the fields that there may be, ``limit`` bounds the bytes of the body. Raises
    RequestError: 400 for what is no such form, or ends before its end, 422 for another field, 413 above
    ``limit`` or for a text that is too long, and 408 where the client falls silent. A file of more
    than ``max_file_bytes`` comes as one that is refused, without its bytes.
    """
    _, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise RequestError(
            "The content type names no boundary; let your HTTP library set the Content-Type of the form."
        )
    collector = _Collector(frozenset(texts), frozenset(files), limits.photo_limit(max_file_bytes))
    parser = _parser(boundary, collector)
    received = 0
    async for chunk in body_chunks(request):
        received += len(chunk)
        if limit is not None and received > limit:
            raise RequestError(
                f"The form is larger than {limit >> 20} MiB; send fewer or smaller files.", status=413
            )
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise RequestError(f"The form cannot be read: {error}.") from None
        while collector.ready:
            yield collector.ready.popleft()
    if not collector.ended:
        raise RequestError(
            f"The form ends after {received:,} bytes without its closing boundary; it was cut off, or its "
            "boundary is not the one that the content type names."
        )


class _Collector:
    """Puts together what the parser finds: headers, then the bytes of one part, then the next."""

    def __init__(self, texts: frozenset[str], files: frozenset[str], largest: limits.Limit) -> None:
        self._largest = largest
        self._texts = texts
        self._files = files
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._field = ""
        self._name = ""
        self._content = bytearray()
        self._size = 0
        self.ready: deque[FormFile | FormText] = deque()
        self.ended = False

    def begin(self) -> None:
        self._headers = {}
        self._content = bytearray()
        self._size = 0

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        # Latin-1 keeps the bytes of a name as they are until they are read as UTF-8.
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        disposition, parameters = parse_options_header(self._headers.get("content-disposition", ""))
        if disposition != b"form-data" or b"name" not in parameters:
            raise RequestError(
                "A part of the form has no header 'Content-Disposition: form-data; name=\"...\"'."
            )
        encoding = self._headers.get("content-transfer-encoding", "binary").strip().lower()
        if encoding not in ("binary", "8bit", "7bit"):
            raise RequestError(
                f"A part of the form is encoded as {shown(encoding)}; send its bytes as they are."
            )
        self._field = _unescaped(parameters[b"name"])
        self._name = _unescaped(parameters.get(b"filename", b""))
        if self._field not in self._texts | self._files:
            known = ", ".join(sorted(self._texts | self._files))
            raise RequestError(f"The form has a part {shown(self._field)}; there are {known}.", status=422)

    def data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._field in self._texts:
            if self._size > limits.FORM_TEXT.most:
                raise RequestError(
                    limits.FORM_TEXT.exceeded(f"The part {self._field!r}", self._size), status=413
                )
        elif self._size > self._largest.most:
            # Read on without keeping it: the files after it may be good ones.
            self._content = bytearray()
            return
        self._content += memoryview(data)[start:end]

    def part_end(self) -> None:
        content = bytes(self._content)
        self._content = bytearray()
        if self._field in self._texts:
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise RequestError(f"The part {self._field!r} is not UTF-8 at byte {error.start}.") from None
            self.ready.append(FormText(self._field, text))
            return
        refused = None
        if self._size > self._largest.most:
            refused = self._largest.exceeded("The file", self._size)
        self.ready.append(FormFile(self._field, self._name, content, refused))

    def end(self) -> None:
        self.ended = True


def _parser(boundary: bytes, collector: _Collector) -> MultipartParser:
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.begin,
                "on_part_data": collector.data,
                "on_part_end": collector.part_end,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_headers_finished": collector.headers_finished,
                "on_end": collector.end,
            },
        )
    except FormParserError as error:
        raise RequestError(f"The form cannot be read: {error}.") from None
    # The client gets the error; the server's log needs no malformed forms of clients.
    parser.logger.setLevel(logging.ERROR)
    return parser


def _unescaped(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return _ESCAPES.sub(lambda escape: _ESCAPED[escape[0].upper()], text)
