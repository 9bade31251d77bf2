"""The encoders of a checkpoint of this project, each in the form that suits this machine.

``python -m crossmodal.models.native.encoders`` writes the shipped models' embeddings of the probes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.cache import user_cache
from crossmodal.models.encoders import LoadOptions, NetworkImageEncoder, NetworkTextEncoder, Runner
from crossmodal.models.identity import fingerprint
from crossmodal.models.native import graphs, mobilenet_blocks
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.native.vocabularies import padded
from crossmodal.models.runtimes import graph, onnx_file
from crossmodal.models.runtimes.choice import FILE, Candidate, Memory, choose, photo_probes, sentence_probes
from crossmodal.models.runtimes.forms import (
    ONNX_F32,
    OPENVINO_BF16,
    OPENVINO_F32,
    TORCH_F32,
    Form,
    set_torch_threads,
)
from crossmodal.models.runtimes.networks import CacheEntry, open_network

__all__ = ["load_image_encoder", "load_text_encoder", "write_probe_vectors"]

Floats = npt.NDArray[np.float32]
Tower = Literal["image", "text"]

# The fastest first, on one core of a CPU with AVX-512 and bfloat16: photos 2.9, 1.6 and 1.7 times as many a
# second as torch. int8 is another 1.4 times faster, and not faithful to short sentences: down to .991 in
# onnxruntime and .996 in OpenVINO.
_FORMS = (OPENVINO_BF16, OPENVINO_F32, ONNX_F32)

# Rows of one run of a graph. More make a photo no faster, and a sentence's neighbours longer; with fewer, a
# request's rows can be shared out between the cores.
_PHOTOS = 8
_SENTENCES = 16

# Rows that go through torch at once. One call keeps all of torch's threads busy.
_TORCH_BATCH = 32


def load_image_encoder(checkpoint: NativeCheckpoint, options: LoadOptions) -> NetworkImageEncoder:
    """The image encoder of ``checkpoint``. Errors as for ``registry.load_image_encoder``."""

    def by_graph(form: Form) -> NetworkImageEncoder:
        def build() -> bytes:
            try:
                return graphs.image_graph(checkpoint.image_weights(), checkpoint.preprocessing)
            except KeyError as error:
                raise ModelError(
                    f"The weights in {checkpoint.folder} don't fit the network: {error} is missing."
                ) from error

        entry = _cache_entry(checkpoint, options, "image")
        network = open_network(form, build, threads=options.threads, cached=entry)
        runner = Runner(str(form), network.concurrency, _PHOTOS, network.run)
        return NetworkImageEncoder(checkpoint.identity, checkpoint.preprocessing, runner)

    return choose(
        options.runtime,
        [Candidate(form, partial(by_graph, form)) for form in _FORMS],
        Candidate(TORCH_F32, partial(_plain_image_encoder, checkpoint, options.threads)),
        probes=partial(photo_probes, checkpoint.preprocessing),
        reference=partial(checkpoint.probe_vectors, "image"),
        memory=_memory(checkpoint, options, "image"),
    )


def load_text_encoder(checkpoint: NativeCheckpoint, options: LoadOptions) -> NetworkTextEncoder:
    """The text encoder of ``checkpoint``. Errors as for ``registry.load_text_encoder``.

    Text after the model's last position is not read.
    """

    def by_graph(form: Form) -> NetworkTextEncoder:
        vocabulary = checkpoint.vocabulary()
        network = open_network(
            form,
            lambda: graphs.text_graph(checkpoint.text_weights(), checkpoint.text),
            threads=options.threads,
            cached=_cache_entry(checkpoint, options, "text"),
        )

        def run(rows: Sequence[Sequence[int]]) -> Floats:
            return network.run(*padded(rows))

        return NetworkTextEncoder(
            checkpoint.identity,
            lambda texts: [vocabulary.numbers_of(text) for text in texts],
            Runner(str(form), network.concurrency, _SENTENCES, run),
            # What OpenVINO computes for a row of a batch without padding is what it computes for it alone.
            unpadded=True,
            independent=form.library == "openvino",
        )

    return choose(
        options.runtime,
        [Candidate(form, partial(by_graph, form)) for form in _FORMS],
        Candidate(TORCH_F32, partial(_plain_text_encoder, checkpoint, options.threads)),
        probes=sentence_probes,
        reference=partial(checkpoint.probe_vectors, "text"),
        memory=_memory(checkpoint, options, "text"),
    )


def write_probe_vectors(checkpoint: NativeCheckpoint) -> None:
    """Writes the plain form's embeddings of the probes beside the weights; needs torch."""
    images, texts = _plain_image_encoder(checkpoint, None), _plain_text_encoder(checkpoint, None)
    checkpoint.save_probe_vectors(
        {
            "image": images.encode(photo_probes(checkpoint.preprocessing)),
            "text": texts.encode(sentence_probes()),
        }
    )


def _plain_image_encoder(checkpoint: NativeCheckpoint, threads: int | None) -> NetworkImageEncoder:
    """The image encoder through torch in float32, which the other forms are compared with."""
    import torch

    from crossmodal.models.native.towers import load_image_tower

    set_torch_threads(threads)
    # Channels last is the layout that CPU convolutions compute in.
    tower = load_image_tower(checkpoint).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pixels: npt.NDArray[np.uint8]) -> Floats:
        x = torch.from_numpy(checkpoint.preprocessing.scale(pixels))
        with torch.inference_mode():
            return np.asarray(tower(x.contiguous(memory_format=torch.channels_last)).numpy())

    runner = Runner(str(TORCH_F32), 1, _TORCH_BATCH, run)
    return NetworkImageEncoder(checkpoint.identity, checkpoint.preprocessing, runner)


def _plain_text_encoder(checkpoint: NativeCheckpoint, threads: int | None) -> NetworkTextEncoder:
    """The text encoder through torch in float32, which the other forms are compared with."""
    import torch

    from crossmodal.models.native.towers import load_text_tower

    set_torch_threads(threads)
    tower, vocabulary = load_text_tower(checkpoint), checkpoint.vocabulary()

    def run(rows: Sequence[Sequence[int]]) -> Floats:
        numbers, lengths = padded(rows)
        with torch.inference_mode():
            return np.asarray(tower(torch.from_numpy(numbers), lengths.tolist()).numpy())

    runner = Runner(str(TORCH_F32), 1, _TORCH_BATCH, run)
    return NetworkTextEncoder(
        checkpoint.identity, lambda texts: [vocabulary.numbers_of(text) for text in texts], runner
    )


def _memory(checkpoint: NativeCheckpoint, options: LoadOptions, tower: Tower) -> Memory:
    """Beside the weights and in the cache; measurements of shipped models, whose folder is part of the
    project, are written to the cache only."""
    beside, cached = checkpoint.folder / FILE, user_cache(options.cache) / FILE
    writable = (cached,) if checkpoint.folder in SHIPPED.values() else (beside, cached)
    return Memory(tower, checkpoint.identity.weights, (beside, cached), writable)


def _cache_entry(checkpoint: NativeCheckpoint, options: LoadOptions, tower: Tower) -> CacheEntry:
    code = fingerprint(Path(str(module.__file__)) for module in (graph, onnx_file, graphs, mobilenet_blocks))
    identity = checkpoint.identity
    decisive = f"{code}\n{identity.preprocessing}\n{checkpoint.text}"
    return CacheEntry(user_cache(options.cache) / "compiled", f"{identity.weights}-{tower}", decisive)


if __name__ == "__main__":
    for name, folder in SHIPPED.items():
        write_probe_vectors(NativeCheckpoint.open(folder, name))
        print(folder)
