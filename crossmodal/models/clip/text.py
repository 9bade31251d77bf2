"""What some text towers of open_clip need beside weights: a tokenizer's files, a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.models.clip.library import import_open_clip
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.hub import find_folder

__all__ = ["load_tokenizer", "text_changes"]

# open_clip's own default, which its configurations leave out.
_CONTEXT = 77

# A tokenizer has one of these; which one depends on its kind.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)
_TOKENIZER_PATTERNS = (*_TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "config.json")


def load_tokenizer(source: ClipSource) -> Any:
    """Sentences to token numbers as the model was trained: a callable that takes a list of texts.

    Raises ModelError where the tokenizer's files are neither beside the weights nor to be had.
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


def text_changes(source: ClipSource) -> dict[str, Any]:
    """What of open_clip's configuration has to change so that it asks nobody for the text tower's shapes.

    Some text towers are named by a repository of the model hub, whose ``config.json`` open_clip would ask
    for each time; here it is read beside the weights, or downloaded once.
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
