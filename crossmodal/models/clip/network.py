"""Networks and tokenizers of open_clip from local files; nothing in a file is ever executed as Python."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from crossmodal.errors import ModelError
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.clip.weight_files import read_torchscript
from crossmodal.models.hub import find_folder
from crossmodal.models.libraries import import_open_clip

__all__ = ["build_network", "build_untrained_image_tower", "load_tokenizer"]

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

# open_clip's own default, which its configurations leave out.
_CONTEXT = 77

# What is neither slow to compute with, as numbers near 0 are, nor too large for any type after all layers.
_ANY_WEIGHT = 0.01

# Of an untrained network only the photo's side is wanted.
_LEAST_TEXT = {"context_length": 8, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}

# A tokenizer has one of these; which one depends on its kind.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)
_TOKENIZER_PATTERNS = (*_TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "config.json")


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
        changes = _text_changes(source)
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


def build_untrained_image_tower(source: ClipSource) -> Any:
    """An open_clip model that takes as long for a photo as that of ``source``, and needs none of its files.

    All weights of its image tower are one number, and its text tower is of no use.
    """
    import torch

    open_clip = import_open_clip()
    # Random numbers for a large tower would take up to a minute.
    with torch.device("meta"):
        network = open_clip.create_model(
            source.architecture,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=source.quick_gelu,
            device="meta",
            text_cfg=_LEAST_TEXT,
        )
    network.visual.to_empty(device="cpu")
    for values in network.visual.state_dict().values():
        values.fill_(_ANY_WEIGHT)
    return network.eval()


def load_tokenizer(source: ClipSource) -> Any:
    """Sentences to token numbers as the model was trained: a callable that takes a list of texts.

    Raises ModelError where the tokenizer's files are neither beside the weights nor can be downloaded.
    """
    open_clip = import_open_clip()
    text = source.configuration["text_cfg"]
    if repository := text.get("hf_tokenizer_name"):
        folder = _local_folder(source, _TOKENIZER_FILES) or find_folder(
            repository,
            "tokenizer_config.json",
            _TOKENIZER_PATTERNS,
            source.cache,
            advice=_advice("the tokenizer's files"),
        )
        from open_clip.tokenizer import HFTokenizer

        try:
            return HFTokenizer(
                str(folder),
                context_length=text.get("context_length", _CONTEXT),
                tokenizer_mode=text.get("tokenizer_mode"),
                local_files_only=True,
                trust_remote_code=False,
                **text.get("tokenizer_kwargs", {}),
            )
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise _unusable("tokenizer", source, folder, error) from error
    name = f"local-dir:{source.path}" if source.kind == "folder" else source.architecture
    return open_clip.get_tokenizer(name)


def _text_changes(source: ClipSource) -> dict[str, Any]:
    """The changes to open_clip's configuration that spare it a request for the text tower's shapes.

    Some text towers are named by a repository of the model hub, whose ``config.json`` open_clip would request
    each time; here it is read beside the weights, or downloaded once.
    """
    text = source.configuration["text_cfg"]
    repository = text.get("hf_model_name")
    if not repository:
        return {}
    folder = _local_folder(source, ("config.json",)) or find_folder(
        repository, "config.json", ("config.json",), source.cache, advice=_advice("the config.json")
    )
    return {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}


def _local_folder(source: ClipSource, files: tuple[str, ...]) -> Path | None:
    if source.path is None:
        return None
    folder = source.path if source.path.is_dir() else source.path.parent
    return folder if any((folder / file).is_file() for file in files) else None


def _advice(what: str) -> str:
    return (
        f"Run the same command once with a connection, or put {what} beside the weights and name that "
        "folder: -m NAME:FOLDER."
    )


def _unusable(what: str, source: ClipSource, folder: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"The {what} of {source.name} in {folder} cannot be loaded: {reason[:400]}.")
