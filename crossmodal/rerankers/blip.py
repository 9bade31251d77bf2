"""BLIP's image-text matching head: a sentence and a photo through one network, which says whether they fit.

Li, Li, Xiong and Hoi, "BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language
Understanding and Generation" (ICML 2022).
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from crossmodal.errors import DataError, ModelError
from crossmodal.models.hub import find_folder
from crossmodal.models.libraries import import_transformers
from crossmodal.rerankers.protocol import Item, Reranker

__all__ = ["load_blip"]

_REPOSITORY = "Salesforce/blip-itm-base-coco"
_WEIGHTS = "model.safetensors"
_FILES = ("*.json", "*.txt", "*.safetensors")


def load_blip(folder: Path | None, cache: Path | None) -> Reranker:
    """The reranker of a folder of transformers, or of the published weights (None), downloaded if need be.

    Raises ModelError where the folder holds no BLIP with that head, or nothing can be downloaded, and
    ModuleNotFoundError without torch or transformers.
    """
    library = import_transformers()
    if folder is None:
        folder = find_folder(
            _REPOSITORY,
            _WEIGHTS,
            _FILES,
            cache,
            advice="Run the same command once with a connection, or copy the repository's folder here from "
            "elsewhere and use --rerank blip:FOLDER.",
        )
    try:
        model, report = library.BlipForImageTextRetrieval.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        processor = library.BlipProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The folder {folder} holds no BLIP that can be loaded: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"The folder {folder} lacks {len(missing)} weights of BLIP's matching, such as {missing[0]}; it "
            f"has to be a model such as {_REPOSITORY}."
        )
    return _Blip(model.eval(), processor)


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

        with Image.open(io.BytesIO(photo)) as image:
            inputs = self._processor(
                images=image.convert("RGB"), text=text, truncation=True, return_tensors="pt"
            )
        with torch.inference_mode():
            fits_not, fits = self._model(**inputs, use_itm_head=True).itm_score[0].float().tolist()
        return float(fits - fits_not)


def _pair(query: Item, candidate: Item) -> tuple[str, bytes]:
    text = query.text if query.text is not None else candidate.text
    photo = query.photo if query.photo is not None else candidate.photo
    if text is None or photo is None:
        raise DataError("BLIP compares a sentence with photos, or a photo with captions.")
    return text, photo
