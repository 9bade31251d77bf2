"""Hostile inputs for the command line, for ``PhotoIndex`` and for gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .values import PATHS, TEXTS, odd_photos

__all__ = ["command_lines", "grpc_requests", "python_calls"]


def command_lines(workspace: Path, empty: Path) -> Iterator[list[str]]:
    """Arguments of ``crossmodal``; ``workspace`` holds an index, ``empty`` is a folder with nothing in it."""
    at = ["--workspace", str(workspace)]
    nowhere = ["--workspace", str(empty / "none")]
    yield from ([], ["--"], ["-"], ["--help", "--help"], ["nothing"], ["-t", "nothing"], ["-t"], ["\udcff"])
    for option, values in {
        "-k": ("", "0", "-1", "1001", "1e3", "nan", "9" * 400, "٣", "--", "1 "),
        "--min-score": ("nan", "inf", "-1", "2", "1e400", "", "0x1"),
        "--offset": ("-1", "1000", "1e9", "x"),
        "--filter": (
            "",
            "{",
            "[]",
            "{}",
            '{"$where": 1}',
            '{"a":' * 5000,
            "9" * 5000,
            '{"a": NaN}',
            "\udcff",
        ),
        "--modality": ("", "sound", "IMAGE"),
        "--index": ("", "magic"),
        "--runtime": ("", "magic"),
        "--shards": ("0", "65", "-1", "x"),
        "--dim": ("0", "-1", "99999", "x"),
        "--model": (
            "",
            "nothing",
            "../..",
            "/etc/passwd",
            "clip:",
            "clip:/",
            "a" * 5000,
            "x?dim=0",
            "\udcff",
        ),
        "--image": (*PATHS, ""),
        "--like": ("", "\udcff", "x" * 300, "../.."),
        "--picture": ("/proc/x.png", "/dev/full", ""),
        "--url": ("", "x", "ftp://a", "http://", "http://[", "http://127.0.0.1:1", "http://127.0.0.1:99999"),
    }.items():
        for value in values:
            yield ["search", "a cat", *at, option, value]
    for text in TEXTS:
        # An argument of a process can hold neither.
        if not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            yield ["search", *at, "--query", text]
    for data in (
        *PATHS[:7],
        "",
        "\udcff",
        "x" * 5000,
        str(empty),
        str(workspace),
        str(workspace / "index.sqlite"),
    ):
        yield ["index", data, *nowhere]
    for place in ("", "/proc/x", "/dev/null", "/etc/passwd", "x" * 5000, "\udcff"):
        yield ["status", "--workspace", place]
        yield ["search", "a cat", "--workspace", place]
    for port in ("0", "-1", "65536", "x", ""):
        yield ["serve", *at, "--port", port]
    yield ["serve", *at, "--host", "256.0.0.1"]
    yield ["serve", *at, "--host", "a b"]
    yield ["serve", *at, "--workers", "65"]
    yield ["convert", "--workspace", str(empty)]
    yield ["train", "--config", "/etc/passwd"]
    yield ["evaluate", "--protocol", "x"]


def python_calls(photo: bytes) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Calls of an open ``PhotoIndex``, with their names; ``photo`` is a good JPEG."""
    odd: list[Any] = [
        None,
        True,
        1,
        1.5,
        float("nan"),
        (),
        {},
        object(),
        b"",
        10**30,
        set(),
        lambda: 0,
        ("a",),
    ]
    arrays = [
        np.zeros(0, np.float32),
        np.zeros(384, np.float32),
        np.full(384, np.nan, np.float32),
        np.full(384, 1e38, np.float32),
        np.ones((2, 384), np.float32),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((1, 1), np.uint8),
        np.zeros((4, 4, 9), np.uint8),
        np.array(["a"]),
        np.array([None]),
        np.ones(384, complex),
    ]
    for value in (*odd, *arrays, *TEXTS, *map(Path, PATHS[:7])):
        yield f"search({_short(value)})", lambda index, value=value: index.search(value)
    for value in (*odd, *TEXTS):
        yield f"search_text({_short(value)})", lambda index, value=value: index.search_text(value)
        yield f"similar({_short(value)})", lambda index, value=value: index.similar(value)
        yield f"get({_short(value)})", lambda index, value=value: index.get(value)
    for name in ("top_k", "offset", "min_score", "filter", "modality", "exclude", "hybrid"):
        for value in (*odd, "x", -1, 10**9, {"a": {"$x": 1}}):
            yield (
                f"search(a, {name}={_short(value)})",
                lambda index, name=name, value=value: index.search("a", **{name: value}),
            )
    for name, content in odd_photos(photo):
        yield f"search_image({name})", lambda index, content=content: index.search_image(content)
    for value in (*odd, *PATHS, "", "\0", "\ud800"):
        yield f"add({_short(value)})", lambda index, value=value: index.add(value)
        yield f"delete([{_short(value)}])", lambda index, value=value: index.delete([value])


def grpc_requests(photo: bytes) -> Iterator[tuple[str, str, list[dict[str, Any]], dict[str, Any]]]:
    """Name, endpoint, documents and parameters of calls, as values of JSON; a blob is Latin-1."""
    for text in TEXTS:
        if not any("\ud800" <= character <= "\udfff" for character in text):
            yield f"text {text[:20]!a}", "/search", [{"text": text}], {}
    for endpoint in (
        "",
        "/",
        "/index",
        "/delete",
        "/status",
        "/nothing",
        "search",
        "/" + "x" * 10_000,
        "/../search",
    ):
        yield f"endpoint {endpoint[:20]}", endpoint, [{"text": "a"}], {}
    values = (None, True, -1, 0, 1.5, 1e308, "", "x", [], {}, [[]], "9" * 400, {"$where": 1}, ["a"] * 1000)
    for name in ("top_k", "filter", "modality", "operation", "shard"):
        for value in values:
            yield f"{name} is {_short(value)}", "/search", [{"text": "a"}], {name: value}
    for name, content in odd_photos(photo):
        yield f"photo: {name}", "/search", [{"blob": content.decode("latin-1"), "modality": "image"}], {}
    for field, value in (
        *(("modality", value) for value in ("", "sound", "image", "x" * 1000)),
        *(("embedding", value) for value in ([], [0.0], [1e38] * 512, [0.0] * 512)),
        *(("uri", path) for path in PATHS),
        *(("wanted", value) for value in ("", "x")),
    ):
        yield f"{field} is {_short(value)}", "/search", [{"text": "a", field: value}], {}
    yield "no documents", "/search", [], {}
    yield "an empty document", "/search", [{}], {}
    yield "300 documents", "/search", [{"text": "a"}] * 300, {}
    yield "ids that repeat", "/search", [{"id": "x", "text": "a"}] * 3, {}


def _short(value: object) -> str:
    return repr(value)[:30]
