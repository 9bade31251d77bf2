"""The encoders of a checkpoint of our own, each in the form that suits this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from crossmodal.models.fingerprints import user_cache
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.native.reference import read_reference
from crossmodal.models.protocols import ImageEncoder, TextEncoder
from crossmodal.models.runtimes.choice import Candidate, choose
from crossmodal.models.runtimes.forms import (
    NUMPY_F32,
    ONNX_F32,
    OPENVINO_BF16,
    OPENVINO_F32,
    TORCH_F32,
    Form,
)
from crossmodal.models.runtimes.probes import photo_probes, sentence_probes
from crossmodal.models.runtimes.remembered import FILE, Memory

__all__ = ["native_image_encoder", "native_text_encoder", "plain_text_encoder"]

# The fastest first, on one core of a CPU with AVX-512 and bfloat16: photos 2.9, 1.6 and 1.7 times as many a
# second as torch; captions 2.2, 1.2 and 1.2 times (the transformer) or 4.5, 2.7 and 3.1 times (the GRU) as
# many as numpy. int8 is another 1.4 times quicker, and not faithful to short sentences: down to .991 in
# onnxruntime and .996 in OpenVINO.
_FORMS = (OPENVINO_BF16, OPENVINO_F32, ONNX_F32)


def native_image_encoder(
    checkpoint: NativeCheckpoint, *, threads: int | None, cache: Path | None, runtime: str
) -> ImageEncoder:
    """The photo's side of ``checkpoint``. Arguments and errors as for ``registry.load_image_encoder``."""
    folder, identity = user_cache(cache), checkpoint.identity

    def by_graph(form: Form) -> ImageEncoder:
        from crossmodal.models.native.graph_encoders import GraphImageEncoder

        return GraphImageEncoder(checkpoint, identity, form, threads=threads, cache=folder)

    def by_torch() -> ImageEncoder:
        from crossmodal.models.native.torch_encoder import TorchImageEncoder

        return TorchImageEncoder(checkpoint, threads=threads)

    return choose(
        runtime,
        [Candidate(form, partial(by_graph, form)) for form in _FORMS],
        Candidate(TORCH_F32, by_torch),
        probes=lambda: photo_probes(checkpoint.preprocessing),
        reference=lambda: read_reference(checkpoint, "image"),
        memory=_memory("image", checkpoint, identity, folder),
    )


def native_text_encoder(
    checkpoint: NativeCheckpoint, *, threads: int | None, cache: Path | None, runtime: str
) -> TextEncoder:
    """The sentence's side of ``checkpoint``, without torch. Arguments and errors as for
    ``registry.load_text_encoder``."""
    folder, identity = user_cache(cache), checkpoint.identity

    def by_graph(form: Form) -> TextEncoder:
        from crossmodal.models.native.graph_encoders import GraphTextEncoder

        return GraphTextEncoder(checkpoint, identity, form, threads=threads, cache=folder)

    return choose(
        runtime,
        [Candidate(form, partial(by_graph, form)) for form in _FORMS],
        Candidate(NUMPY_F32, lambda: plain_text_encoder(checkpoint)),
        probes=sentence_probes,
        reference=lambda: read_reference(checkpoint, "text"),
        memory=_memory("text", checkpoint, identity, folder),
    )


def plain_text_encoder(checkpoint: NativeCheckpoint) -> TextEncoder:
    """The sentence's side of ``checkpoint`` in numpy."""
    if checkpoint.text.kind == "gru":
        from crossmodal.models.native.gru_encoder import GruTextEncoder

        return GruTextEncoder(checkpoint)
    from crossmodal.models.native.transformer_encoder import TransformerTextEncoder

    return TransformerTextEncoder(checkpoint)


def _memory(tower: str, checkpoint: NativeCheckpoint, identity: ModelIdentity, cache: Path) -> Memory:
    """Beside the weights; what is measured of shipped models, whose file is part of the project, goes to the
    cache."""
    beside, kept = checkpoint.folder / FILE, cache / FILE
    shipped = checkpoint.folder in SHIPPED.values()
    return Memory(tower, checkpoint.identity.weights, (beside, kept), (kept,) if shipped else (beside, kept))
