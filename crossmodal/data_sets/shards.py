"""Shards: many photos in one file, with what is said of each, as webdataset's tar and img2dataset's Parquet.

A sample is what has one key: in a tar the members whose names are equal up to the first dot, ``00001.jpg``,
``00001.txt`` and ``00001.json``, in Parquet a row.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from crossmodal.addresses import open_address
from crossmodal.data_sets.described import CAPTIONS, cell_text, further_tags
from crossmodal.data_sets.photos import looks_like_an_image, photo_too_large
from crossmodal.data_sets.values import has_lone_surrogate, json_value
from crossmodal.errors import DataError
from crossmodal.extras import extra_for
from crossmodal.records import Failure

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

__all__ = ["MOST_SAID", "Sample", "SamplePhoto", "holds_photos", "is_shard", "read_shard", "said_beside"]

# The position of what lies in a compressed tar, where nothing can be found without reading all before it.
_PACKED = "packed"

# The endings of what is read beside a photo: its caption, and a JSON object.
_TEXT_ENDINGS = ("txt", "caption", "text")
_JSON_ENDING = "json"
# More than this is no caption, and no object that img2dataset writes.
MOST_SAID = 1 << 20

# The columns of Parquet that may hold photos, by img2dataset, Hugging Face and others.
_PHOTO_COLUMNS = ("jpg", "jpeg", "png", "webp", "image", "image_bytes", "photo", "img", "bytes")

# Rows, with their photos, that are in memory at once.
_ROWS_AT_ONCE = 32

# What the photo's own file says better.
_OF_THE_FILE = frozenset({"width", "height"})


@dataclass(frozen=True, slots=True)
class SamplePhoto:
    """A photo inside of a sample: its name in the shard, where it is there, its bytes.

    ``content`` is None for one of which ``refused`` says why it cannot be read.
    """

    name: str
    position: str
    content: bytes | None
    refused: str | None = None


@dataclass(slots=True)
class Sample:
    """What a shard has under one key; ``tags`` are None where nothing but captions is said."""

    key: str
    photos: list[SamplePhoto] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    tags: dict[str, Any] | None = None
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def say(self, ending: str, content: bytes) -> None:
        """Takes in what stands in a text or JSON file beside the photo."""
        if ending == _JSON_ENDING:
            try:
                said = json.loads(content)
            except (ValueError, RecursionError):
                said = None
            if not isinstance(said, dict) or has_lone_surrogate(said):
                self.failures.append(f"{self.key}.json is no JSON object with texts in UTF-8")
                return
            self.say_row(said)
        else:
            self._caption(content.decode("utf-8", "replace"))

    def say_row(self, row: Mapping[str, Any]) -> None:
        """Takes in the values of a row or of a JSON object."""
        for name in CAPTIONS:
            if (said := cell_text(row, name)) is not None:
                self._caption(said)
                break
        tags = {
            name: json_value(value) for name, value in further_tags(row).items() if name not in _OF_THE_FILE
        }
        if (url := cell_text(row, "url")) is not None:
            tags["url"] = url
        self.tags = {**(self.tags or {}), **{name: value for name, value in tags.items() if value != ""}}

    def _caption(self, text: str) -> None:
        # img2dataset says it twice, in the text and in the JSON.
        if (caption := text.strip()) and caption not in self.captions:
            self.captions.append(caption)


def is_shard(name: str) -> bool:
    """Whether a file is called like a shard."""
    return name.lower().endswith((".tar", ".tar.gz", ".tgz", ".parquet"))


def said_beside(name: str) -> str | None:
    """The ending of a file that says something of the photo beside it, for ``Sample.say``; else None."""
    ending = name.lower().rpartition(".")[2]
    return ending if ending in _TEXT_ENDINGS or ending == _JSON_ENDING else None


def read_shard(address: str, *, max_bytes: int) -> Iterator[Sample | Failure]:
    """The samples of the shard at an address or path, in its order.

    A photo of more than ``max_bytes`` is not read. Where the shard breaks off, a failure is the last that
    comes. Raises MissingExtra for Parquet without pyarrow, and for an address without its package.
    """
    read = _parquet if address.lower().endswith(".parquet") else _tar
    try:
        yield from read(address, max_bytes)
    except DataError as error:
        yield Failure(address, str(error))


def holds_photos(address: str) -> bool:
    """Whether a file of Parquet has a column of photos; raises DataError where it cannot be read."""
    with _parquet_file(address) as file:
        return bool(_photo_columns(file.schema_arrow))


def _tar(address: str, max_bytes: int) -> Iterator[Sample]:
    packed = not address.lower().endswith(".tar")
    with open_address(address) as opened, _untarred(opened, address) as archive:
        sample: Sample | None = None
        for member in archive:
            if not member.isfile():
                continue
            name = member.name.removeprefix("./")
            folder, _, last = name.rpartition("/")
            stem, _, ending = last.partition(".")
            key = f"{folder}/{stem}".lstrip("/")
            if sample is not None and sample.key != key:
                yield sample
                sample = None
            sample = sample or Sample(key)
            _take_member(sample, archive, member, name, ending.lower(), max_bytes, packed=packed)
        if sample is not None:
            yield sample


def _take_member(
    sample: Sample,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    ending: str,
    max_bytes: int,
    *,
    packed: bool,
) -> None:
    if looks_like_an_image(name):
        position = _PACKED if packed else f"{member.offset_data}+{member.size}"
        if member.size > max_bytes:
            refused = photo_too_large(name, member.size, max_bytes)
            sample.photos.append(SamplePhoto(name, position, None, refused))
        else:
            sample.photos.append(SamplePhoto(name, position, _content(archive, member)))
    elif (beside := said_beside(ending)) is None:
        sample.left_out.append(f".{ending}" if ending else "without extension")
    elif member.size > MOST_SAID:
        sample.failures.append(
            f"{name} has {member.size:,} bytes, and no caption is longer than {MOST_SAID:,}"
        )
    else:
        sample.say(beside, _content(archive, member))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"it ends within {member.name}")
    return content


@contextmanager
def _untarred(opened: IO[bytes], address: str) -> Iterator[tarfile.TarFile]:
    try:
        # As a stream: nothing is looked for twice.
        with tarfile.open(fileobj=opened, mode="r|*") as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{address} cannot be read as tar any further: {error}") from None


def _parquet(address: str, max_bytes: int) -> Iterator[Sample]:
    with _parquet_file(address) as file:
        columns = _photo_columns(file.schema_arrow)
        if not columns:
            raise DataError(
                f"{address} has no column of photos: none of {', '.join(_PHOTO_COLUMNS)} with bytes in it. "
                f"It has {', '.join(file.schema_arrow.names)}. Vectors are read with --embeddings."
            )
        number = 0
        # Neither vectors nor other lists.
        plain = [field.name for field in file.schema_arrow if _is_plain(field.type)]
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*plain, *columns]):
            for row in batch.to_pylist():
                number += 1
                yield _of_row(row, number, columns, max_bytes)


def _of_row(row: dict[str, Any], number: int, columns: Sequence[str], max_bytes: int) -> Sample:
    key = cell_text(row, "key") or f"row-{number}"
    sample = Sample(key)
    for column in columns:
        held = row.pop(column)
        content, path = (held.get("bytes"), held.get("path")) if isinstance(held, dict) else (held, None)
        if not content:
            continue
        # The name tells the columns of one row apart, and is the file's where one is told.
        name = f"{key}/{path}" if path else f"{key}.{column}"
        if len(content) > max_bytes:
            refused = photo_too_large(name, len(content), max_bytes)
            sample.photos.append(SamplePhoto(name, f"row:{number}", None, refused))
        else:
            sample.photos.append(SamplePhoto(name, f"row:{number}", content))
    if not sample.photos:
        said = [said for name in ("status", "error_message") if (said := cell_text(row, name))]
        sample.failures.append("it has no photo" + (f" ({': '.join(said)})" if said else ""))
    sample.say_row(row)
    return sample


def _is_plain(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    text = types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind)
    return bool(text or types.is_integer(kind) or types.is_floating(kind))


def _photo_columns(schema: pyarrow.Schema) -> list[str]:
    from pyarrow import types

    def is_bytes(kind: pyarrow.DataType) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    return [
        field.name
        for field in schema
        if field.name.lower() in _PHOTO_COLUMNS
        and (
            is_bytes(field.type)
            # Hugging Face's: the bytes, and what the file was called.
            or (
                types.is_struct(field.type)
                and any(part.name == "bytes" and is_bytes(part.type) for part in field.type)
            )
        )
    ]


@contextmanager
def _parquet_file(address: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    with extra_for("Reading Parquet"):
        import pyarrow
        import pyarrow.parquet
    with open_address(address) as opened:
        try:
            with pyarrow.parquet.ParquetFile(opened) as file:
                yield file
        except pyarrow.ArrowException as error:
            raise DataError(f"{address} cannot be read as Parquet: {error}") from None
