"""What is in a message of protobuf, and how much, found out before it is unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["first_inside", "has_more_fields"]

# https://protobuf.dev/programming-guides/encoding: how a value is written.
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def has_more_fields(raw: bytes, descriptor: Any, most: int) -> bool:
    """Whether the message ``raw`` of the type ``descriptor`` has more than ``most`` fields at all depths.

    Two bytes make a field, and unpacked it takes a hundred and more; looking at bytes costs nothing, however
    many a field has. What is no protobuf is left to the parser, which refuses it.
    """
    view = memoryview(raw)
    inside: list[tuple[int, int, Any]] = [(0, len(raw), descriptor)]
    count = 0
    try:
        while inside:
            at, end, kind = inside.pop()
            while at < end:
                count += 1
                if count > most:
                    return True
                tag, at = _varint(view, at)
                if tag & 7 == _LENGTH:
                    length, at = _varint(view, at)
                    field = kind.fields_by_number.get(tag >> 3)
                    if field is not None and field.message_type is not None:
                        inside.append((at, min(at + length, end), field.message_type))
                    at += length
                else:
                    at = _after(view, at, tag & 7)
    except (IndexError, ValueError):
        return False
    return False


def first_inside(raw: bytes, path: Sequence[int], most: int) -> bytes | None:
    """What the first field with the first number of ``path``, in it the first with the next, and so on.

    None where there is none among the first ``most`` fields of a message, or where it is no message.
    """
    view = memoryview(raw)
    at, end = 0, len(raw)
    try:
        for number in path:
            found = None
            for _ in range(most):
                if at >= end or found is not None:
                    break
                tag, at = _varint(view, at)
                if tag & 7 == _LENGTH:
                    length, at = _varint(view, at)
                    found = (at, min(at + length, end)) if tag >> 3 == number else None
                    at += length
                else:
                    at = _after(view, at, tag & 7)
            if found is None:
                return None
            at, end = found
    except (IndexError, ValueError):
        return None
    return bytes(view[at:end])


def _after(view: memoryview, at: int, written: int) -> int:
    """Where a value without a length ends; raises ValueError for what no value is written as."""
    if written == _VARINT:
        return _varint(view, at)[1]
    if written in (_EIGHT_BYTES, _FOUR_BYTES):
        return at + (8 if written == _EIGHT_BYTES else 4)
    raise ValueError(f"{written} is no wire type")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number that starts ``at`` a place, and where it ends; raises IndexError beyond the end."""
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a varint has at most ten bytes")
