"""``index``: files on disk to a durable index, through the whole Flow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import inputs, processes
from bench.harness import Contender, Options, Result, at_least, compared, in_turns, timed
from bench.models import PlainClip, model_cache, model_inputs, open_clip_transform, vit_name
from crossmodal.flow.pipeline import CAPTIONS_FOR_A_PHOTO
from crossmodal.models import DEFAULT_MODEL, load_image_encoder, load_preprocessing, load_text_encoder

__all__ = ["run"]

# What one request of the index Flow holds.
_BATCHES = {"photos": 32, "captions": 32 * CAPTIONS_FOR_A_PHOTO}

_OF_ENCODER = 0.80
# A photo is decoded and shown small beside being encoded, in processes of their own; encoding takes the
# default model little time.
_PHOTOS_OF_ENCODER = 0.60
_TIMES_FASTER = 8.0

_VIT = "ViT-B/32"


def run(options: Options) -> list[Result]:
    """Documents/s for photos and captions, with ViT-B/32 and the default model.

    The time is the Flow's, from the first file read to the last document committed; starting Python isn't in
    it, nor in the references.
    """
    # Quick runs can't amortise the first requests, which find every queue empty.
    judged = not options.quick
    photos, captions, plain_items = (32, 128, 4) if options.quick else (512, 2048, 32)
    models = (
        {DEFAULT_MODEL: DEFAULT_MODEL}
        if options.quick
        else {_VIT: vit_name(options), DEFAULT_MODEL: DEFAULT_MODEL}
    )
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for kind, items in (("photos", photos), ("captions", captions)):
            data = _data_set(kind, Path(folder) / kind, items, options)
            for label, name in models.items():
                small = kind == "photos" and name == DEFAULT_MODEL
                arguments = (
                    data,
                    Path(folder) / "workspace",
                    "-m",
                    name,
                    "--model-cache",
                    model_cache(options),
                )
                rounds = in_turns(
                    {
                        "flow": partial(processes.index_seconds, *arguments),
                        "encoder": _encoder_alone(kind, name, items, options),
                        "plain": _plain_loop(kind, plain_items, Path(folder), options),
                    },
                    warm_up=0 if options.quick else 1,
                    until=options.until(0.5),
                )
                results.append(
                    compared(
                        f"index, {kind}, {label}, of the encoder alone",
                        "documents/s",
                        rounds["flow"].rate(),
                        "the same encoder on arrays in memory",
                        rounds["encoder"].rate(),
                        goal=at_least(_PHOTOS_OF_ENCODER if small else _OF_ENCODER, judged=judged),
                    )
                )
                results.append(
                    compared(
                        f"index, {kind}, {label}, against a plain loop",
                        "documents/s",
                        rounds["flow"].rate(),
                        "open_clip ViT-B/32 fp32 one by one, then a faiss index written",
                        rounds["plain"].rate(),
                        goal=at_least(_TIMES_FASTER, judged=judged),
                    )
                )
    return results


def _data_set(kind: str, folder: Path, items: int, options: Options) -> Path:
    photos = inputs.photo_files(options)
    if kind == "photos":
        return inputs.photo_set(folder, photos, items)
    return inputs.caption_set(folder, photos, inputs.captions(options, items))


def _encoder_alone(kind: str, name: str, items: int, options: Options) -> Contender:
    """Seconds for one item, in batches on as many threads as the encoder can use."""
    encode: Callable[[Any], object]
    batch = _BATCHES[kind]
    if kind == "photos":
        of_photos = load_image_encoder(name, cache=model_cache(options))
        encode, threads = of_photos.encode, of_photos.concurrency
        held: Any = model_inputs(name, options, batch)
        # The same few photos again and again: what they show doesn't matter to a network.
        batches = [held] * (items // batch)
    else:
        of_texts = load_text_encoder(name, cache=model_cache(options))
        encode, threads = of_texts.encode, of_texts.concurrency
        texts = inputs.captions(options, items)
        batches = [texts[start : start + batch] for start in range(0, items, batch)]

    def measure() -> float:
        with ThreadPoolExecutor(threads) as pool:
            return timed(lambda: list(pool.map(encode, batches))) / (len(batches) * batch)

    return measure


def _plain_loop(kind: str, items: int, folder: Path, options: Options) -> Contender:
    """Seconds for one item the way a script does it: open, transform, encode, add; at the end write."""
    import faiss

    plain = PlainClip.load(options)
    transform = open_clip_transform(load_preprocessing(vit_name(options)))
    photos, texts = inputs.photo_files(options), inputs.captions(options, items)

    def encode(number: int) -> np.ndarray[Any, Any]:
        if kind == "captions":
            return plain.encode_texts([texts[number]])
        return plain.encode_photos(transform(photos[number % len(photos)].read_bytes())[None])

    def loop() -> None:
        index = faiss.IndexFlatIP(512)
        for number in range(items):
            index.add(encode(number))
        faiss.write_index(index, str(folder / "plain.faiss"))

    return lambda: timed(loop) / items
