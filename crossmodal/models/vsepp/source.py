"""Which original VSE++ checkpoint a name means, and where its vocabulary lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.published import PublishedModel
from crossmodal.models.vsepp.checkpoint import VseppCheckpoint, read_checkpoint
from crossmodal.models.vsepp.vocabulary import VseppVocabulary
from crossmodal.models.zoo import ModelRecord, split_name
from crossmodal.models.zoo.models import VSEPP_MODELS

__all__ = ["VseppSource", "find_source"]

_SUFFIX = ".pth.tar"
_BEST = f"model_best{_SUFFIX}"
_ARCHIVE = "http://www.cs.toronto.edu/~faghri/vsepp/"


@dataclass(frozen=True)
class VseppSource(PublishedModel):
    """A checkpoint file; ``record`` is the zoo's, where it was given by its name."""

    path: Path
    record: ModelRecord | None = None
    cache: Path | None = None

    @property
    def name(self) -> str:
        """As ``PublishedModel.name``."""
        path = str(self.path.absolute())
        return path if self.record is None else f"{self.record.name}:{path}"

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """That of all VSE++ models: the middle 224 pixels of photos whose short side is 256."""
        return VSEPP_MODELS[0].preprocessing

    @property
    def dimension(self) -> int:
        """As ``PublishedModel.dimension``; reads the checkpoint."""
        return self.checkpoint.dimension

    @cached_property
    def checkpoint(self) -> VseppCheckpoint:
        """The checkpoint's contents. Raises ModelError as ``read_checkpoint`` does."""
        return read_checkpoint(self.path)

    @cached_property
    def vocabulary_file(self) -> Path:
        """``*_vocab.pkl`` or ``.json`` beside the checkpoint, or in ``vocab/`` there or above."""
        folder = self.path.absolute().parent
        places = [folder, *(parent / "vocab" for parent in (folder, folder.parent, folder.parent.parent))]
        for place in places:
            found = sorted([*place.glob("*_vocab.json"), *place.glob("*_vocab.pkl")])
            named = [file for file in found if file.name.startswith(f"{self._data_set}_vocab.")]
            if named or len({file.stem for file in found}) == 1:
                return (named or found)[0]
        raise ModelError(
            f"The vocabulary of {self.path} is missing: {self._data_set}_vocab.pkl or .json, in the same "
            f"folder or in vocab/ beside it. It is in {_ARCHIVE}vocab.tar."
        )

    @property
    def _data_set(self) -> str:
        return self.checkpoint.data_set

    def vocabulary(self) -> VseppVocabulary:
        """The words. Raises ModelError where they are not the checkpoint's."""
        vocabulary = VseppVocabulary.load(self.vocabulary_file)
        if len(vocabulary) != self.checkpoint.words:
            raise ModelError(
                f"The vocabulary {self.vocabulary_file} has {len(vocabulary):,} words and the checkpoint "
                f"{self.path} {self.checkpoint.words:,}: they don't belong together."
            )
        return vocabulary

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The checkpoint and its vocabulary."""
        return (self.path, self.vocabulary_file)


def find_source(name: str, cache: Path | None) -> VseppSource | None:
    """What ``vse++-...:PATH`` or the path of a ``.pth.tar`` means, or None.

    Raises ModelError where a name is given without its local files, which cannot be downloaded one by one,
    or where these are missing.
    """
    if found := split_name(name):
        record, path = found
        if record.library != "vse++":
            return None
        if path is None:
            raise ModelError(
                f"The model {record.name} has to be given local files, "
                f"{record.name}:PATH_OF_THE_CHECKPOINT: all checkpoints are published in one archive, "
                f"{_ARCHIVE}runs.tar, and the vocabularies in vocab.tar there."
            )
        return VseppSource(_file(path), record, cache)
    path = expanded(name)
    if path.is_file() and path.name.endswith(_SUFFIX):
        return VseppSource(path, cache=cache)
    return VseppSource(path / _BEST, cache=cache) if (path / _BEST).is_file() else None


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / _BEST).is_file():
        return path / _BEST
    raise ModelError(f"The folder {path} has no {_BEST}; name the checkpoint file itself.")
