"""BLIP's image-text matching head: a sentence and a photo through one network, which says whether they fit.

Li, Li, Xiong and Hoi, "BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language
Understanding and Generation" (ICML 2022).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossmodal.errors import DataError
from crossmodal.models.libraries import import_transformers
from crossmodal.rerankers.pretrained import device, load_network, pretrained_folder, rgb
from crossmodal.rerankers.protocol import Item, Reranker

__all__ = ["load_blip"]

_REPOSITORY = "Salesforce/blip-itm-base-coco"


def load_blip(name: str, folder: Path | None, cache: Path | None) -> Reranker:
    """The reranker of a folder of transformers, or of the published weights (None), downloaded if need be.

    Raises ModelError where the folder holds no BLIP with that head, or nothing can be downloaded, and
    ModuleNotFoundError without torch or transformers.
    """
    library = import_transformers()
    folder = pretrained_folder(name, folder, _REPOSITORY, cache)

    def load() -> tuple[Any, dict[str, Any], Any]:
        kept = {"local_files_only": True}
        network, report = library.BlipForImageTextRetrieval.from_pretrained(
            folder, output_loading_info=True, **kept
        )
        return network, report, library.BlipProcessor.from_pretrained(folder, **kept)

    return _Blip(*load_network(folder, "BLIP with a matching head", _REPOSITORY, load))


class _Blip:
    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor
        # One call keeps all of torch's threads busy.
        self._lock = threading.Lock()

    def __call__(self, query: Item, candidates: Sequence[Item]) -> list[float]:
        """The logit of each pair's matching."""
        pairs = [_pair(query, candidate) for candidate in candidates]
        # Each by itself: in a batch its last bits, and the padding, would depend on the others.
        with self._lock:
            return [self._match(text, photo) for text, photo in pairs]

    def _match(self, text: str, photo: bytes) -> float:
        import torch

        inputs = self._processor(images=rgb(photo), text=text, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            fits_not, fits = (
                self._model(**inputs.to(device()), use_itm_head=True).itm_score[0].float().tolist()
            )
        return float(fits - fits_not)


def _pair(query: Item, candidate: Item) -> tuple[str, bytes]:
    text = query.text if query.text is not None else candidate.text
    photo = query.photo if query.photo is not None else candidate.photo
    if text is None or photo is None:
        raise DataError("BLIP compares a sentence with photos, or a photo with captions.")
    return text, photo
