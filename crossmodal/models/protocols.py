"""What every model of this project offers: two encoders into one space, which can be loaded apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["ImageEncoder", "TextEncoder"]


class ImageEncoder(Protocol):
    """Photos to vectors."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def preprocessing(self) -> ImagePreprocessing: ...

    @property
    def runtime(self) -> str:
        """What computes, for people to read, such as ``openvino bf16``."""
        ...

    @property
    def concurrency(self) -> int:
        """How many threads can usefully call ``encode`` at once."""
        ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Squares uint8 (N, size, size, 3) as ``preprocessing.crop`` makes them, N from 0 on, to vectors
        float32 (N, dimension) of unit length. Safe from any number of threads; the same squares in the same
        order make the same vectors to the last bit."""
        ...


class TextEncoder(Protocol):
    """Sentences to vectors."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def runtime(self) -> str:
        """As ``ImageEncoder.runtime``."""
        ...

    @property
    def concurrency(self) -> int:
        """As ``ImageEncoder.concurrency``."""
        ...

    @property
    def independent(self) -> bool:
        """Whether a sentence's vector is the same to the last bit whatever is encoded together with it."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Any number of sentences, from 0 on, to vectors float32 (N, dimension) of unit length. Safe from any
        number of threads; the same sentences in the same order make the same vectors to the last bit."""
        ...
