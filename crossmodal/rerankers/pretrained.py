"""What the rerankers of transformers share: where their files are, how they are loaded, what they look at."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from crossmodal.errors import ModelError
from crossmodal.models.hub import find_folder

__all__ = ["device", "load_network", "pretrained_folder", "rgb"]

_WEIGHTS = "model.safetensors"
_FILES = ("*.json", "*.txt", "*.jinja", "*.safetensors")


def pretrained_folder(name: str, folder: Path | None, repository: str, cache: Path | None) -> Path:
    """The ``folder``, or where it is None that of ``repository`` in the ``cache``, downloaded if need be.

    Raises ModelError where it cannot be downloaded, which says what to do about the reranker ``name``.
    """
    if folder is not None:
        return folder
    return find_folder(
        repository,
        _WEIGHTS,
        _FILES,
        cache,
        advice="Run the same command once with a connection, or copy the repository's folder here from "
        f"elsewhere and use --rerank {name}:FOLDER.",
    )


def load_network(
    folder: Path, what: str, example: str, load: Callable[[], tuple[Any, dict[str, Any], Any]]
) -> tuple[Any, Any]:
    """The network, made ready to compute, and the processor that ``load`` makes of ``folder``.

    ``load`` returns the network, what transformers says of its weights, and the processor. Raises ModelError
    where the folder does not hold ``what``, such as the repository ``example`` does.
    """
    try:
        network, report, processor = load()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"The folder {folder} holds no {what} that can be loaded: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"The folder {folder} lacks {len(missing)} weights of {what}, such as {missing[0]}; it has to be "
            f"a model such as {example}."
        )
    return network.eval().to(device()), processor


def device() -> str:
    """Where they compute: cuda where there is a GPU for it, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def rgb(photo: bytes) -> Image.Image:
    """The pixels of a JPEG."""
    with Image.open(io.BytesIO(photo)) as image:
        return image.convert("RGB")
