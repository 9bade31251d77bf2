"""A process that reads the text in photos, ``crossmodal.ocr.worker THREADS NICE``, started by ``reader``.

A photo comes on stdin, as the number of its bytes (4 bytes, little endian) and a JPEG that this project's own
decoder made; an answer goes to stdout, as the number of its bytes and JSON. It ends when stdin does.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO

__all__ = ["LENGTH", "LONGEST_SIDE"]

# How a photo or an answer says how many bytes it has.
LENGTH = struct.Struct("<I")

# Photos come no larger than this, in pixels; the lines on a page of A4 have some thirty of them then.
LONGEST_SIDE = 2048

# Text is looked for in the photo at this size: at full size that takes three times as long. It is read at
# full size.
_SEARCHED_SIDE = 1280

# What is read with less confidence, 0 to 1, is mostly bricks, leaves and fences.
_LEAST_CONFIDENCE = 0.7

# Of a photo that is a page of tiny print.
_MOST_CHARACTERS = 50_000

Box = Sequence[Sequence[float]]


def _main(arguments: list[str]) -> None:
    threads, nice = map(int, arguments)
    os.nice(nice)
    photos = sys.stdin.buffer
    # Whatever libraries print goes to stderr, and not between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    read = _engine(threads)
    _answer(answers, {"ready": True})
    for photo in _photos(photos):
        try:
            text = _text_of(read, photo)
        except Exception as error:  # noqa: BLE001  it costs this photo, whatever it is
            _answer(answers, {"error": " ".join(str(error).split()) or type(error).__name__})
        else:
            _answer(answers, {"text": text})


def _engine(threads: int) -> Any:
    """rapidocr with its own models, and ``threads`` of onnxruntime; raises ModuleNotFoundError."""
    import cv2
    from rapidocr import RapidOCR

    # The network has the threads; what OpenCV does between is short.
    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.max_side_len": LONGEST_SIDE,
            "Global.text_score": _LEAST_CONFIDENCE,
            "Det.limit_type": "max",
            "Det.limit_side_len": _SEARCHED_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _photos(stream: BinaryIO) -> Iterator[bytes]:
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        (size,) = LENGTH.unpack(head)
        yield stream.read(size)


def _answer(stream: BinaryIO, answer: dict[str, Any]) -> None:
    said = json.dumps(answer).encode()
    stream.write(LENGTH.pack(len(said)) + said)
    stream.flush()


def _text_of(read: Any, photo: bytes) -> str:
    """The lines of text in a JPEG, from top to bottom; empty where there is none."""
    import numpy as np
    from PIL.Image import open as open_image

    with open_image(BytesIO(photo), formats=("JPEG",)) as image:
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
    found = read(np.ascontiguousarray(pixels))
    if not getattr(found, "txts", None):
        return ""
    lines = (line for line in _lines(found.boxes.tolist(), found.txts) if any(map(str.isalnum, line)))
    return "\n".join(lines)[:_MOST_CHARACTERS]


def _lines(boxes: Sequence[Box], texts: Sequence[str]) -> Iterator[str]:
    """The ``texts`` that stand beside each other in one line each; ``boxes`` are their corners, in order."""
    line: list[str] = []
    right, middle = 0.0, 0.0
    for box, text in zip(boxes, texts, strict=True):
        across, down = [corner[0] for corner in box], [corner[1] for corner in box]
        beside = min(down) <= middle <= max(down) and min(across) >= right
        if line and not beside:
            yield " ".join(line)
            line = []
        line.append(" ".join(text.split()))
        right, middle = max(across), (min(down) + max(down)) / 2
    if line:
        yield " ".join(line)


if __name__ == "__main__":
    _main(sys.argv[1:])
