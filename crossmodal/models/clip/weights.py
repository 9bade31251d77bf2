"""Weight files into networks; nothing in a file is ever executed as Python."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from crossmodal.errors import ModelError
from crossmodal.models.clip.library import import_open_clip
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.clip.text import text_changes

__all__ = ["build_network", "read_torchscript"]

# What torch, safetensors and open_clip raise for files that are damaged or belong to another network.
_LOADING_ERRORS = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    ValueError,
    pickle.UnpicklingError,
)

# What an archive holds beside weights: sizes, and the mask that makes the text causal.
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def build_network(source: ClipSource) -> Any:
    """The whole open_clip model in float32, ready to encode.

    Raises ModelError where the weights cannot be read or don't fit.
    """
    open_clip = import_open_clip()
    path = source.weights
    try:
        if source.kind == "openai":
            import torch
            from open_clip.model import build_model_from_openai_state_dict

            return (
                build_model_from_openai_state_dict(read_torchscript(path), cast_dtype=torch.float32)
                .float()
                .eval()
            )
        changes = text_changes(source)
        if source.kind == "folder":
            return open_clip.create_model(f"local-dir:{path.parent}", pretrained_text=False, **changes).eval()
        return open_clip.create_model(
            source.architecture,
            pretrained=str(path),
            force_quick_gelu=source.quick_gelu,
            pretrained_text=False,
            **changes,
        ).eval()
    except _LOADING_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"The weights {path} cannot be loaded into {source.architecture}: {reason[:400]}."
        ) from error


def read_torchscript(path: Path) -> dict[str, Any]:
    """The tensors of a TorchScript archive, which is the form in which OpenAI published CLIP."""
    import torch

    try:
        state: dict[str, Any] = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        raise ModelError(f"The archive {path} cannot be read: {str(error).splitlines()[0]}.") from error
    for key in _NOT_WEIGHTS:
        state.pop(key, None)
    return {key: value.float() for key, value in state.items()}
