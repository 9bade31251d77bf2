"""``profile``: where a millisecond of a query and of an indexed document goes, on one core."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import inputs, processes
from bench.harness import Contender, Options, Result, Rounds, compared, in_turns, latency, repeated
from bench.models import model_inputs
from bench.vectors import opened, settled
from crossmodal.flow.pipeline import CAPTIONS_FOR_A_PHOTO
from crossmodal.images import decode_reduced, thumbnail_of
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.machine import available_cores
from crossmodal.models import DEFAULT_MODEL, load_image_encoder, load_text_encoder
from crossmodal.records import IMAGE, TEXT, Record, record_id
from crossmodal.workspace import Workspace

__all__ = ["run"]

_BATCH = 32
_TOP_K = 10


def run(options: Options) -> list[Result]:
    """The parts of each measured alone, and the rest: the Flow, and cores that wait."""
    items = (64, 256) if options.quick else (512, 2048)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        photos = inputs.photo_set(folder / "photos", inputs.photo_files(options), items[0])
        captions = inputs.caption_set(
            folder / "captions", inputs.photo_files(options), inputs.captions(options, items[1])
        )
        with ExitStack() as held:
            store = held.enter_context(EmbeddedStore.open_writer(folder / "store"))
            indexed = [
                *_documents(
                    "an indexed photo",
                    _photo_parts(options, store),
                    _flow(photos, folder),
                    options.until(0.3),
                ),
                *_documents(
                    "an indexed caption",
                    _caption_parts(options, store),
                    _flow(captions, folder),
                    options.until(0.4),
                ),
            ]
        return [*indexed, *_query(options, photos, folder)]


def _photo_parts(options: Options, store: EmbeddedStore) -> dict[str, Contender]:
    files = inputs.photo_files(options)[:_BATCH]
    blobs = [file.read_bytes() for file in files]
    encoder = load_image_encoder(DEFAULT_MODEL, threads=1)
    preprocessing = encoder.preprocessing
    decoded = [decode_reduced(blob, short_side=preprocessing.decoded_side) for blob in blobs]
    pixels = model_inputs(DEFAULT_MODEL, options, _BATCH)
    vectors = encoder.encode(pixels)[: len(blobs)]
    thumbnails = [thumbnail_of(photo) for photo in decoded]
    put = _putting(
        store,
        [
            Record("", IMAGE, content=blob, thumbnail=small)
            for blob, small in zip(blobs, thumbnails, strict=True)
        ],
    )

    def read() -> None:
        for file in files:
            Record(str(file), IMAGE, content=file.read_bytes()).hashed()

    return {
        "read and hash": repeated(read, len(files)),
        "decode": repeated(
            lambda: [decode_reduced(blob, short_side=preprocessing.decoded_side) for blob in blobs],
            len(blobs),
        ),
        "scale to a square": repeated(
            lambda: [preprocessing.crop(photo.pixels, photo.frame) for photo in decoded], len(decoded)
        ),
        "encode": repeated(lambda: encoder.encode(pixels), _BATCH),
        "thumbnail": repeated(lambda: [thumbnail_of(photo) for photo in decoded], len(blobs)),
        "store": repeated(lambda: put(vectors), len(blobs)),
    }


def _caption_parts(options: Options, store: EmbeddedStore) -> dict[str, Contender]:
    texts = inputs.captions(options, CAPTIONS_FOR_A_PHOTO * _BATCH)
    encoder = load_text_encoder(DEFAULT_MODEL, threads=1)
    vectors = encoder.encode(texts)
    put = _putting(store, [Record("", TEXT, text=text) for text in texts])

    def read() -> None:
        for text in texts:
            Record("", TEXT, text=text).hashed()

    return {
        "hash": repeated(read, len(texts)),
        "encode": repeated(lambda: encoder.encode(texts), len(texts)),
        "store": repeated(lambda: put(vectors), len(texts)),
    }


def _query(options: Options, photos: Path, folder: Path) -> list[Result]:
    texts = inputs.captions(options, 5_000)
    encoder = load_text_encoder(DEFAULT_MODEL, threads=1)
    workspace = folder / "workspace"
    processes.index(photos, workspace)
    with processes.serving(workspace) as server, Workspace(workspace) as shown, opened(workspace) as index:
        settled(index)
        vectors = [encoder.encode([text]) for text in texts[:_BATCH]]
        found = [[id for id, *_ in index.search(vector, _TOP_K)[0]] for vector in vectors]
        connection = server.connect()
        ask = partial(processes.ask, connection, "/v1/search")
        rounds = in_turns(
            {
                "whole": latency(lambda text: ask({"text": text, "top_k": _TOP_K}), texts, _BATCH),
                "encode": latency(lambda text: encoder.encode([text]), texts, _BATCH),
                "search": latency(partial(index.search, top_k=_TOP_K), vectors, _BATCH),
                "fetch": latency(lambda ids: list(shown.records(ids, IMAGE)), found, _BATCH),
            },
            until=options.until(),
        )
        connection.close()
    return _parts("a query", rounds, rounds.pop("whole"), "HTTP, batching, Flow and answer")


def _flow(data: Path, folder: Path) -> Contender:
    """The seconds of all cores for one document through ``app.py -t index``."""
    return lambda: processes.index_seconds(data, folder / "indexed") * available_cores()


def _documents(
    what: str, parts: Mapping[str, Contender], flow: Contender, until: float | None
) -> list[Result]:
    rounds = in_turns({"whole": flow, **parts}, until=until)
    return _parts(what, rounds, rounds.pop("whole"), "Flow, waiting")


def _parts(what: str, parts: Mapping[str, Rounds], whole: Rounds, rest: str) -> list[Result]:
    """A row for each part with its share of the whole, for what is left, and for the whole."""
    sums = [sum(values) for values in zip(*(part.values for part in parts.values()), strict=True)]
    left = Rounds(tuple(total - known for total, known in zip(whole.values, sums, strict=True)))
    rows = {**parts, rest: left, "all": whole}
    return [
        compared(f"profile, {what}, {part}", "ms", each.times(1e3), f"all of {what}", whole.times(1e3))
        for part, each in rows.items()
    ]


def _putting(store: EmbeddedStore, records: Sequence[Record]) -> Callable[[NDArray[np.float32]], object]:
    """What commits ``records`` as one batch, under new ids each time."""
    numbers = count()

    def put(vectors: NDArray[np.float32]) -> object:
        batch = [replace(record, id=record_id(f"{next(numbers)}")) for record in records]
        return store.put(batch, vectors)

    return put
