"""Late interaction: a vector of each token of a sentence meets one of each region of a photo (MaxSim).

Faysse et al., "ColPali: Efficient Document Retrieval with Vision Language Models" (ICLR 2025). The
networks are those of transformers: ColPali over PaliGemma, and ColQwen2 over Qwen2-VL.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.errors import DataError, ModelError
from crossmodal.models.libraries import import_transformers
from crossmodal.rerankers.pretrained import device, load_network, pretrained_folder, rgb
from crossmodal.rerankers.protocol import Item, RegionReranker, Regions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["REPOSITORIES", "load_multi_vector"]

# Each architecture, as ``model_type`` of config.json calls it, with its published weights.
REPOSITORIES = {"colpali": "vidore/colpali-v1.3-hf", "colqwen2": "vidore/colqwen2-v1.0-hf"}

_CLASSES = {"colpali": "ColPali", "colqwen2": "ColQwen2"}


def load_multi_vector(name: str, folder: Path | None, cache: Path | None) -> RegionReranker:
    """The reranker ``name``, a key of ``REPOSITORIES``: from a folder of transformers, or the published one.

    Raises ModelError where the folder holds no such network, or nothing can be downloaded, and
    ModuleNotFoundError without torch or transformers.
    """
    library = import_transformers()
    repository, kind = REPOSITORIES[name], _CLASSES[name]
    folder = pretrained_folder(name, folder, repository, cache)

    def load() -> tuple[Any, dict[str, Any], Any]:
        found = json.loads((folder / "config.json").read_bytes()).get("model_type")
        if found != name:
            raise ModelError(f"The folder {folder} holds a model of the type {found!r}, not {name}.")
        network, report = getattr(library, f"{kind}ForRetrieval").from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        return (
            network,
            report,
            getattr(library, f"{kind}Processor").from_pretrained(folder, local_files_only=True),
        )

    return _MultiVector(*load_network(folder, kind, repository, load), _identity(name, folder))


class _MultiVector:
    def __init__(self, network: Any, processor: Any, identity: str) -> None:
        self.identity = identity
        self._network = network
        self._processor = processor
        # One call keeps all of torch's threads busy.
        self._lock = threading.Lock()
        # A search asks for one sentence, batch after batch.
        self._sentence: tuple[str, NDArray[np.float32]] | None = None

    def __call__(self, query: Item, candidates: Sequence[Item]) -> list[float]:
        """Of each pair the sum over the tokens of its sentence of the largest cosine with a region."""
        return [self._max_sim(query, candidate) for candidate in candidates]

    def regions(self, photo: bytes) -> Regions:
        """The regions of one photo, and the few tokens of its prompt, which the network is trained with."""
        return Regions.of(self._vectors(self._processor.process_images, rgb(photo)))

    def _max_sim(self, query: Item, candidate: Item) -> float:
        text = query.text if query.text is not None else candidate.text
        photo = candidate if query.text is not None else query
        if text is None or photo.text is not None:
            raise DataError("Late interaction compares a sentence with photos, or a photo with captions.")
        regions = photo.regions or self.regions(photo.photo or b"")
        return float((self._tokens(text) @ regions.vectors.T).max(axis=1).sum())

    def _tokens(self, text: str) -> NDArray[np.float32]:
        known = self._sentence
        if known is None or known[0] != text:
            self._sentence = known = text, self._vectors(self._processor.process_queries, text)
        return known[1]

    def _vectors(self, processed: Callable[[list[Any]], Any], item: Any) -> NDArray[np.float32]:
        import torch

        with self._lock, torch.inference_mode():
            inputs = processed([item])
            inputs.pop("labels", None)
            vectors: NDArray[np.float32] = (
                self._network(**inputs.to(device())).embeddings[0].float().cpu().numpy()
            )
        return vectors


def _identity(name: str, folder: Path) -> str:
    """The name, and which files those of the folder are, without reading gigabytes of them."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{name}-{hashlib.sha256(repr(stats).encode()).hexdigest()[:16]}"
