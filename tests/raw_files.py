"""Raw files as cameras write them, made here: no camera's own may be given away with the tests."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image


def raw_file(*, standard: bool = True, preview: bytes = b"", side: int = 64, orientation: int = 1) -> bytes:
    """A raw file of a camera, after the DNG specification 1.4: a mosaic of red above and blue below.

    Without ``standard`` it is one of TIFF/EP, as of makers that don't write DNG.
    """
    mosaic = np.zeros((side, side), "<u2")
    mosaic[: side // 2 : 2, ::2] = 40_000
    mosaic[side // 2 + 1 :: 2, 1::2] = 40_000
    strip = mosaic.tobytes()
    tags: list[tuple[int, int, bytes]] = [
        (254, 4, struct.pack("<I", 0)),
        (256, 4, struct.pack("<I", side)),
        (257, 4, struct.pack("<I", side)),
        (258, 3, struct.pack("<H", 16)),
        (259, 3, struct.pack("<H", 1)),
        (262, 3, struct.pack("<H", 32803)),
        (271, 2, b"Nobody\0"),
        (272, 2, b"Nothing\0"),
        (273, 4, b"STRP"),
        (274, 3, struct.pack("<H", orientation)),
        (277, 3, struct.pack("<H", 1)),
        (278, 4, struct.pack("<I", side)),
        (279, 4, struct.pack("<I", len(strip))),
        (33421, 3, struct.pack("<2H", 2, 2)),
        (33422, 1, bytes((0, 1, 1, 2))),
    ]
    if standard:
        matrix = (1, 0, 0, 0, 1, 0, 0, 0, 1)
        tags += [
            (50706, 1, bytes((1, 4, 0, 0))),
            (50708, 2, b"Nothing\0"),
            (50721, 10, b"".join(struct.pack("<ii", value, 1) for value in matrix)),
            (50728, 5, struct.pack("<6I", 1, 1, 1, 1, 1, 1)),
        ]
    extra: list[tuple[int, int, bytes]] = []
    if preview:
        tags.append((330, 4, b"SUBF"))
        extra = [
            (254, 4, struct.pack("<I", 1)),
            (256, 4, struct.pack("<I", Image.open(BytesIO(preview)).width)),
            (257, 4, struct.pack("<I", Image.open(BytesIO(preview)).height)),
            (258, 3, struct.pack("<3H", 8, 8, 8)),
            (259, 3, struct.pack("<H", 7)),
            (262, 3, struct.pack("<H", 6)),
            (273, 4, b"PREV"),
            (277, 3, struct.pack("<H", 3)),
            (278, 4, struct.pack("<I", Image.open(BytesIO(preview)).height)),
            (279, 4, struct.pack("<I", len(preview))),
        ]
    first = 8
    second = first + 6 + 12 * len(tags)
    data_start = second + (6 + 12 * len(extra) if extra else 0)
    data = b""
    places = {b"SUBF": second}
    for name, content in ((b"STRP", strip), (b"PREV", preview)):
        places[name] = data_start + len(data)
        data += content

    def folder(entries: list[tuple[int, int, bytes]]) -> bytes:
        nonlocal data
        made = struct.pack("<H", len(entries))
        for tag, kind, value in sorted(entries):
            size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}[kind]
            value = struct.pack("<I", places[value]) if value in places else value
            count = len(value) // size
            if len(value) > 4:
                place = data_start + len(data)
                data += value
                value = struct.pack("<I", place)
            made += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        return made + struct.pack("<I", 0)

    folders = folder(tags) + (folder(extra) if extra else b"")
    return b"II*\0" + struct.pack("<I", first) + folders + data
