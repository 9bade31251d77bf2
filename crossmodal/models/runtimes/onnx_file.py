"""Writes ONNX files with nothing but numpy.

An ONNX file is one protobuf message. The few messages that a network needs are written here, byte for byte
as the onnx package writes them, which spares its users 85 MB. Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Message", "model", "node", "tensor", "tensor_type", "type_number"]

# TensorProto.DataType.
_TYPE_NUMBERS = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
}

# AttributeProto.AttributeType.
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7

# Protobuf's wire types.
_VARINT, _LENGTH, _FIXED32 = 0, 2, 5

# What protobuf reads at most.
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """A message's bytes in parts, so that weights are copied once, when the file is put together."""

    parts: tuple[bytes | memoryview, ...]
    size: int

    def __bytes__(self) -> bytes:
        """The whole message."""
        return b"".join(self.parts)


def model(
    name: str,
    nodes: Iterable[Message],
    inputs: Iterable[Message],
    outputs: Iterable[Message],
    constants: Iterable[Message],
    *,
    opset: int,
    ir_version: int,
) -> bytes:
    """A whole file: a graph of ``nodes`` (each after those that it needs) in the standard operators.

    Raises ValueError where it would be larger than protobuf's 2 GiB.
    """
    graph = _message(
        *(_nested(1, part) for part in nodes),
        _text(2, name),
        *(_nested(5, part) for part in constants),
        *(_nested(11, part) for part in inputs),
        *(_nested(12, part) for part in outputs),
    )
    operators = _message(_text(1, ""), _integer(2, opset))
    whole = _message(_integer(1, ir_version), _nested(7, graph), _nested(8, operators))
    if whole.size > _LARGEST:
        raise ValueError(f"the network takes {whole.size:,} bytes, and an ONNX file at most {_LARGEST:,}")
    return bytes(whole)


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]) -> Message:
    """One operation (NodeProto)."""
    return _message(
        *(_text(1, name) for name in inputs),
        *(_text(2, name) for name in outputs),
        _text(4, operator),
        *(_nested(5, _attribute(name, value)) for name, value in sorted(attributes.items())),
    )


def tensor(name: str, array: npt.NDArray[Any]) -> Message:
    """A constant (TensorProto)."""
    # ONNX stores numbers in little-endian order.
    array = np.asarray(array, order="C")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return _message(
        *(_integer(1, length) for length in array.shape),
        _integer(2, type_number(array.dtype)),
        _text(8, name),
        _bytes(9, array.reshape(-1).view(np.uint8).data),
    )


def tensor_type(name: str, dtype: npt.DTypeLike, shape: Iterable[int | str]) -> Message:
    """An input or output (ValueInfoProto); an axis of unknown length has a name instead."""
    axes = (_text(2, axis) if isinstance(axis, str) else _integer(1, axis) for axis in shape)
    lengths = _message(*(_nested(1, axis) for axis in axes))
    kind = _message(_nested(1, _message(_integer(1, type_number(dtype)), _nested(2, lengths))))
    return _message(_text(1, name), _nested(2, kind))


def type_number(dtype: npt.DTypeLike) -> int:
    """How ONNX calls a type of numpy. Raises TypeError for one that it has not."""
    name = np.dtype(dtype).name
    if name not in _TYPE_NUMBERS:
        raise TypeError(f"ONNX files are written here with {', '.join(_TYPE_NUMBERS)}, not with {name}")
    return _TYPE_NUMBERS[name]


def _attribute(name: str, value: Any) -> Message:
    """A setting of an operation (AttributeProto). Raises TypeError for a kind that no network uses here."""
    match value:
        case bool() | int() | np.integer():
            return _message(_text(1, name), _integer(3, int(value)), _integer(20, _INT))
        case float() | np.floating():
            return _message(_text(1, name), _float(2, float(value)), _integer(20, _FLOAT))
        case str():
            return _message(_text(1, name), _text(4, value), _integer(20, _STRING))
        case list() | tuple() if value and all(isinstance(number, int) for number in value):
            return _message(_text(1, name), *(_integer(8, number) for number in value), _integer(20, _INTS))
    raise TypeError(f"the attribute {name} is neither a number, a text nor a list of integers: {value!r}")


def _message(*fields: Message) -> Message:
    return Message(
        tuple(part for field in fields for part in field.parts), sum(field.size for field in fields)
    )


def _nested(number: int, message: Message) -> Message:
    return _message(_whole(_key(number, _LENGTH) + _varint(message.size)), message)


def _integer(number: int, value: int) -> Message:
    return _whole(_key(number, _VARINT) + _varint(value))


def _float(number: int, value: float) -> Message:
    return _whole(_key(number, _FIXED32) + struct.pack("<f", value))


def _text(number: int, value: str) -> Message:
    return _bytes(number, value.encode())


def _bytes(number: int, value: bytes | memoryview) -> Message:
    return _message(_whole(_key(number, _LENGTH) + _varint(len(value))), Message((value,), len(value)))


def _whole(value: bytes) -> Message:
    return Message((value,), len(value))


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
