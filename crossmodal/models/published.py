"""What every published model offers before it is loaded, whichever library builds it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.models.cache import remembered_fingerprint, user_cache
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["PublishedModel"]


class PublishedModel(ABC):
    """A model that was found and not loaded; ``cache`` as in ``registry.identify_model``."""

    cache: Path | None

    @property
    @abstractmethod
    def name(self) -> str:
        """What ``-m`` takes to find it again; paths are absolute."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """The length of an embedding. Raises ModelError where the model's files don't state it."""

    @property
    @abstractmethod
    def preprocessing(self) -> ImagePreprocessing:
        """How the model wants its photos; its weights are not downloaded."""

    @property
    @abstractmethod
    def weight_files(self) -> tuple[Path, ...]:
        """All files that decide its embeddings, downloaded if they are missing.

        Raises ModelError where one is missing and cannot be downloaded.
        """

    @property
    def custom_code(self) -> str | None:
        """Where the Python code lies that the model brings along and needs to execute, or None."""
        return None

    @cached_property
    def identity(self) -> ModelIdentity:
        """What an index remembers of the model. The hashes of its files are remembered in the cache."""
        fingerprints = [remembered_fingerprint(path, user_cache(self.cache)) for path in self.weight_files]
        weights = fingerprints[0]
        if len(fingerprints) > 1:
            weights = hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()[: len(weights)]
        return ModelIdentity(self.name, weights, self.preprocessing.describe(), self.dimension)

    def require_trust(self, trusted: bool) -> None:
        """Raises ModelError where the model has code to execute and is not ``trusted``."""
        if self.custom_code is not None and not trusted:
            raise ModelError(
                f"The model {self.name} runs Python code of its own, from {self.custom_code}, which can do "
                "on this machine whatever you can. Read it, and add --trust-remote-code if you trust it."
            )
