"""Which model in the form of the transformers library a name means, and what its files say about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.hub import cached_file, find_folder
from crossmodal.models.huggingface.preprocessing import read_preprocessing
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.published import PublishedModel
from crossmodal.models.zoo import ModelRecord, split_name

__all__ = ["TransformersSource", "find_source"]

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_DOWNLOADED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.py")

# What decides a text's numbers; each kind of tokenizer has some of these.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)

# Two towers that transformers itself builds, of squares of one size.
_BUILT_IN = ("clip", "siglip")


@dataclass(frozen=True)
class TransformersSource(PublishedModel):
    """A folder of transformers; where ``folder`` is None, a repository of the model hub (``record``)."""

    folder: Path | None
    record: ModelRecord | None = None
    cache: Path | None = None

    @property
    def name(self) -> str:
        """As ``PublishedModel.name``."""
        path = None if self.folder is None else str(self.folder.absolute())
        if self.record is None:
            assert path is not None
            return path
        return self.record.name if path is None else f"{self.record.name}:{path}"

    @cached_property
    def files(self) -> Path:
        """The folder with all files, downloaded if need be. Raises ModelError where that cannot be done."""
        if self.folder is not None:
            return self.folder
        assert self.record is not None
        assert self.record.repository is not None
        return find_folder(
            self.record.repository,
            _WEIGHTS[0],
            _DOWNLOADED,
            self.cache,
            advice="Run the same command once with a connection, or copy the repository's folder here from "
            f"elsewhere and use --model {self.record.name}:FOLDER.",
        )

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``. Raises ModelError where it cannot be read."""
        path = self.files / _CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise TypeError("it is not an object")
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"The model's configuration {path} cannot be used: {error}.") from error
        return config

    @property
    def _downloaded(self) -> bool:
        repository = None if self.record is None else self.record.repository
        return repository is not None and cached_file(repository, _WEIGHTS[0], self.cache) is not None

    @property
    def custom_code(self) -> str | None:
        """As ``PublishedModel.custom_code``; downloads nothing."""
        if self.folder is None and self.record is not None and not self._downloaded:
            known = f"the repository {self.record.repository} and what it refers to"
            return known if self.record.custom_code else None
        named = self._model_class
        if named is None:
            return None
        repository, dashes, _ = named.rpartition("--")
        return f"the repository {repository}" if dashes else str(self.files / f"{named.partition('.')[0]}.py")

    @property
    def code_elsewhere(self) -> bool:
        """Whether the code that this model brings along lies in another repository of the model hub."""
        return "--" in (self._model_class or "")

    @property
    def _model_class(self) -> str | None:
        """The model's own class as ``config.json`` names it; None where transformers itself has one."""
        if self.config.get("model_type") in _BUILT_IN:
            return None
        named = (self.config.get("auto_map") or {}).get("AutoModel")
        return named if isinstance(named, str) else None

    @property
    def lower_case(self) -> bool:
        """Whether sentences are lower-cased first: SigLIP and SigLIP 2 were trained on such."""
        return self.config.get("model_type") == "siglip"

    @property
    def fixed_length(self) -> bool:
        """Whether sentences are padded to the whole length: SigLIP reads its last position in any case."""
        return self.config.get("model_type") == "siglip"

    @property
    def text_length(self) -> int | None:
        """How many tokens of a sentence are read, both ends included; None where the tokenizer decides."""
        default = {"clip": 77, "siglip": 64}.get(str(self.config.get("model_type")))
        if default is not None:
            return int((self.config.get("text_config") or {}).get("max_position_embeddings", default))
        return None if self.record is None else self.record.text_length

    @property
    def dimension(self) -> int:
        """As ``PublishedModel.dimension``."""
        text = self.config.get("text_config") or {}
        if self.config.get("model_type") == "siglip":
            found = text.get("projection_size") or text.get("hidden_size") or 768
        elif self.config.get("model_type") == "clip":
            found = self.config.get("projection_dim", 512)
        else:
            projected = self.config.get("add_projections", "embed_dim" not in text)
            found = self.config.get("projection_dim") if projected else text.get("embed_dim")
        if not isinstance(found, int):
            raise ModelError(f"{self.files / _CONFIG} doesn't state the dimension of the model's embeddings.")
        return found

    @cached_property
    def preprocessing(self) -> ImagePreprocessing:
        """What ``preprocessor_config.json`` says; for a model of the zoo without local files, its record."""
        if self.folder is None and self.record is not None:
            repository = self.record.repository
            if not repository or cached_file(repository, "preprocessor_config.json", self.cache) is None:
                return self.record.preprocessing
        return read_preprocessing(self.files / "preprocessor_config.json")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Weights, configuration, tokenizer and code."""
        weights = [self.files / file for file in _WEIGHTS if (self.files / file).is_file()][:1]
        if not weights:
            raise ModelError(f"The model folder {self.files} has none of the files {', '.join(_WEIGHTS)}.")
        if weights[0].suffix == ".json":
            weights = sorted(self.files.glob("model-*.safetensors"))
        rest = (_CONFIG, *_TOKENIZER_FILES)
        code = sorted(self.files.glob("*.py")) if self.custom_code else []
        return (*weights, *(self.files / file for file in rest if (self.files / file).is_file()), *code)


def find_source(name: str, cache: Path | None) -> TransformersSource | None:
    """What a zoo name or a path means in the form of transformers, or None.

    Raises ModelError where it is such a folder but of a kind that cannot be used.
    """
    if found := split_name(name):
        record, path = found
        if record.library != "transformers":
            return None
        if path is not None and not (path / _CONFIG).is_file():
            raise ModelError(f"{path} is not a folder with {_CONFIG}, which {record.name} needs.")
        source = TransformersSource(path, record, cache)
        if path is not None:
            _require_known(source)
        return source
    path = expanded(name)
    folder = path.parent if path.name in (_CONFIG, *_WEIGHTS) else path
    if not (folder / _CONFIG).is_file() or (folder / "open_clip_config.json").is_file():
        return None
    source = TransformersSource(folder, cache=cache)
    _require_known(source)
    return source


def _require_known(source: TransformersSource) -> None:
    kind = source.config.get("model_type")
    if kind in _BUILT_IN or source.custom_code:
        return
    reason = ""
    if kind == "siglip2":
        reason = (
            " (SigLIP 2's NaFlex models see photos as patches of any number; the others are of type siglip)"
        )
    raise ModelError(
        f"{source.files / _CONFIG} describes a model of type {kind!r}, which cannot be used{reason}. "
        f"Supported are {' and '.join(_BUILT_IN)}, and two-tower models with code of their own."
    )
