"""jina-reranker-m0: what is asked and a photo, or a text, in one prompt, whose last token says if they fit.

The weights (``jinaai/jina-reranker-m0``, CC-BY-NC 4.0) are Qwen2-VL-2B with a head of two layers. To use what
is published with them means to run code of others; here the network is that of transformers, and the rest is
written anew from facts. The names ``score.0`` and ``score.2`` of the head's weights, the ReLU between them,
the last token and the 2.65 are those of vLLM's ``jina_vl.py``, and how many pixels a photo has those of its
example. The prompt, the token 100 behind it and the sigmoid are those of the published ``modeling.py``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossmodal.deadlines import check_deadline
from crossmodal.errors import ModelError
from crossmodal.models.libraries import import_transformers
from crossmodal.rerankers.pretrained import device, load_network, pretrained_folder, rgb
from crossmodal.rerankers.protocol import Item, Reranker

__all__ = ["load_jina"]

_logger = logging.getLogger(__name__)

_REPOSITORY = "jinaai/jina-reranker-m0"

_PHOTO = "<|vision_start|><|image_pad|><|vision_end|>"
# The fewest and the most pixels of a photo.
_SIZE = {"shortest_edge": 3136, "longest_edge": 602112}
_SCORE_TOKEN = 100
_BIAS = 2.65


def load_jina(name: str, folder: Path | None, cache: Path | None) -> Reranker:
    """The reranker of a folder of transformers, or of the published weights (None), downloaded if need be.

    Raises ModelError where the folder holds no Qwen2-VL with that head, or nothing can be downloaded, and
    ModuleNotFoundError without torch or transformers.
    """
    library = import_transformers()
    folder = pretrained_folder(name, folder, _REPOSITORY, cache)

    def load() -> tuple[Any, dict[str, Any], Any]:
        kept = {"local_files_only": True}
        network, report = library.Qwen2VLModel.from_pretrained(folder, output_loading_info=True, **kept)
        return network, report, library.Qwen2VLProcessor.from_pretrained(folder, size=_SIZE, **kept)

    network, processor = load_network(folder, "Qwen2-VL", _REPOSITORY, load)
    _logger.warning(
        "The weights of jina-reranker-m0 are licensed for non-commercial use only (CC-BY-NC 4.0)."
    )
    return _Jina(network, _head(folder, network), processor)


class _Jina:
    def __init__(self, network: Any, head: Any, processor: Any) -> None:
        self._network = network
        self._head = head
        self._processor = processor
        # One call keeps all of torch's threads busy.
        self._lock = threading.Lock()

    def __call__(self, query: Item, candidates: Sequence[Item]) -> list[float]:
        """From 0 to 1 how well each fits: sentences and photos, in any pair."""
        # Each by itself: in a batch its last bits, and the padding, would depend on the others.
        with self._lock:
            return [self._fit(query, candidate) for candidate in candidates]

    def _fit(self, query: Item, document: Item) -> float:
        import torch

        # A CPU takes its time for each.
        check_deadline()
        photos = [rgb(item.photo) for item in (document, query) if item.photo is not None]
        prompt = f"**Document**:\n{_shown(document)}\n**Query**:\n{_shown(query)}"
        inputs = self._processor(text=[prompt], images=photos or None, return_tensors="pt")
        for key, value in (("input_ids", _SCORE_TOKEN), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            inputs[key] = torch.nn.functional.pad(inputs[key], (0, 1), value=value)
        with torch.inference_mode():
            last = self._network(**inputs.to(device())).last_hidden_state[0, -1]
            return float((self._head(last).double() - _BIAS).sigmoid())


def _shown(item: Item) -> str:
    # What people write is never taken for a photo.
    return _PHOTO if item.photo is not None else (item.text or "").replace("<|", "< |")


def _head(folder: Path, network: Any) -> Any:
    """The two layers of the head, from whichever file of the folder holds them."""
    import torch
    from safetensors import safe_open

    wide = network.config.get_text_config().hidden_size
    head = torch.nn.Sequential(torch.nn.Linear(wide, wide), torch.nn.ReLU(), torch.nn.Linear(wide, 1))
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith("score.")]  # noqa: SIM118
            found |= {name.removeprefix("score."): file.get_tensor(name) for name in names}
    try:
        head.load_state_dict(found)
    except RuntimeError as error:
        raise ModelError(
            f"The folder {folder} holds no head of jina-reranker-m0 over its Qwen2-VL: {error} It has to "
            f"be a model such as {_REPOSITORY}."
        ) from error
    return head.eval().to(network.device, network.dtype)
