"""Values and photos that no friend would send."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator

__all__ = [
    "CONFUSING_IDS",
    "JSON_VALUES",
    "PATHS",
    "TEXTS",
    "as_json",
    "bomb_photos",
    "data_uri",
    "odd_photos",
]

PATHS = (
    "/etc/passwd",
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    "FILE://localhost/etc/shadow",
    "/proc/self/environ",
    "/dev/zero",
    "~/.ssh/id_rsa",
    "http://127.0.0.1:1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:127.0.0.1]/",
    "http://2130706433/",
    "gopher://127.0.0.1:6379/_INFO",
    "jar:file:///x!/y",
    "\\\\host\\share\\photo.jpg",
)

TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ufeff",
    "\u202etxt.exe",
    "\ud800",
    "\udc00\ud800",
    "é" * 1000,
    "e" + "\u0301" * 1999,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 200,
    "'; DROP TABLE documents; --",
    '" OR 1=1 --',
    "{{7*7}} ${jndi:ldap://x/} %s%n%x",
    "<script>alert(1)</script>",
    "a" * 2000,
    "a" * 2001,
    "a " * 100_000,
    "NEAR(a b, 99999999)",
    'text:"unclosed',
    "\r\nSet-Cookie: a=b",
)

# As they stand in JSON: some are no JSON, or more than JSON's readers expect.
JSON_VALUES = (
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "1e308",
    "1e999",
    "-0.0",
    "NaN",
    "Infinity",
    "9" * 40,
    "9" * 5000,
    '""',
    '"\\u0000"',
    '"\\ud800"',
    '"\\ud83d"',
    '"' + "x" * 100_000 + '"',
    "[]",
    "{}",
    "[null]",
    "[[[[]]]]",
    "[" * 900 + "]" * 900,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" + "0," * 20_000 + "0]",
    '{"__proto__": {"a": 1}}',
    '{"$where": "sleep(9999)"}',
    '"/etc/passwd"',
    '"http://169.254.169.254/"',
    '"data:image/png;base64,AAAA"',
    '"data:text/html,<script>"',
    '"data:;base64,' + "A" * 4096 + '"',
    '"id:"',
    '"upload:99"',
)

CONFUSING_IDS = (
    "%00",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%2F..%2Fetc%2Fpasswd",
    "....//....//etc/passwd",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "%ED%A0%80",
    "%",
    "%zz",
    "%25252e",
    "a%0d%0aSet-Cookie:x=y",
    "x" * 257,
    "x" * 8000,
    "%F0%9F%90%88",
    "a/content/thumbnail",
    "a/../../content",
    "/",
    "//",
    "%2F",
    ".",
    "..",
    "'%20OR%201=1",
    "*",
    "%3Cscript%3E",
    "content",
    "thumbnail",
    ";id",
    "a?b%23c",
)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """``content`` as clients put photos into JSON."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, data: bytes, *more: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _gif(width: int, height: int, frames: int = 1) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def odd_photos(photo: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that are no photos, or broken ones; ``photo`` is a good JPEG."""
    pixels = zlib.compress(b"".join(b"\0" + bytes(3 * 8) for _ in range(8)))
    text = zlib.compress(bytes(40 << 20), 9)
    yield "nothing", b""
    yield "one byte", b"\xff"
    yield "zeros", bytes(4096)
    yield "text", b"not a photo at all " * 50
    yield "html", b"<!doctype html><script>alert(1)</script>"
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>1</script></svg>'
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    yield "svg of a billion laughs", f'<!DOCTYPE l [<!ENTITY l0 "x">{entities}]><svg>&l8;</svg>'.encode()
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"
    yield "zip", b"PK\x03\x04" + bytes(60)
    yield "pickle", b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
    yield "elf", b"\x7fELF" + bytes(60)
    for share in (1, 10, 50, 90, 99):
        yield f"a JPEG cut at {share}%", photo[: len(photo) * share // 100]
    for place in range(0, 600, 40):
        yield (
            f"a JPEG with byte {place} turned",
            photo[:place] + bytes([photo[place] ^ 0xFF]) + photo[place + 1 :],
        )
    yield "a JPEG and a megabyte", photo + bytes(1 << 20)
    yield "PNG without pixels", _png(8, 8, b"")
    yield "PNG of no width", _png(0, 8, pixels)
    yield "PNG of no height", _png(8, 0, pixels)
    yield "PNG wider than 31 bits", _png(0xFFFFFFFF, 8, pixels)
    yield "PNG of a wrong depth", _png(8, 8, pixels, depth=99)
    yield "PNG of a wrong colour", _png(8, 8, pixels, colour=5)
    yield "PNG with too few pixels", _png(8, 8, zlib.compress(b"\0"))
    yield "PNG with too many pixels", _png(8, 8, zlib.compress(bytes(1 << 20)))
    yield "PNG with broken pixels", _png(8, 8, b"\xff" * 100)
    yield "PNG with a text of 40 MB", _png(8, 8, pixels, _chunk(b"zTXt", b"k\0\0" + text))
    yield "PNG with a profile of 40 MB", _png(8, 8, pixels, _chunk(b"iCCP", b"k\0\0" + text))
    yield "PNG with an endless chunk", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(99)
    yield "PNG of one pixel by a million", _png(1_000_000, 1, zlib.compress(bytes(3_000_001)))
    yield "GIF of no size", _gif(0, 0)
    yield "GIF with 5,000 frames", _gif(16, 16, 5000)
    yield (
        "GIF with a frame beyond it",
        _gif(16, 16)[:13] + bytes(6) + b"," + b"\xff" * 9 + b"\x02\x02\x44\x01\x00;",
    )
    yield (
        "BMP of negative size",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, -8, -8, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield (
        "TIFF that points at itself",
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 330, 4, 1, 8) + struct.pack("<I", 8),
    )
    yield "WebP of nothing", b"RIFF\x04\0\0\0WEBP"
    yield "AVIF of nothing", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"
    yield "ICO that lies", b"\0\0\1\0\xff\xff" + b"\xff" * 64


def bomb_photos() -> Iterator[tuple[str, bytes]]:
    """Small files that unpack to photos of hundreds of megabytes or more."""
    little = zlib.compress(bytes(1000))
    yield "PNG of 1 by 170,000,000", _png(1, 170_000_000, little)
    yield "PNG of 170,000,000 by 1", _png(170_000_000, 1, little)
    yield "PNG of 13,000 by 13,000", _png(13_000, 13_000, little)
    yield "PNG of 60,000 by 60,000", _png(60_000, 60_000, little)
    yield "PNG of 16 bits a colour", _png(12_000, 12_000, little, depth=16, colour=6)
    yield "GIF of 13,000 by 13,000", _gif(13_000, 13_000)
    yield "GIF of 65,535 by 65,535", _gif(65_535, 65_535)


def as_json(text: str) -> str:
    """A text as JSON that is ASCII alone, halves of characters included."""
    return json.dumps(text)
