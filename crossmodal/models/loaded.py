"""Encoders that are loaded once and used by every step of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from crossmodal.models.protocols import ImageEncoder, TextEncoder

__all__ = ["LoadedEncoders"]

_Encoder = TypeVar("_Encoder")


class LoadedEncoders:
    """The encoders of a process, by what they were asked for with; each is loaded at its first use.

    Arguments and errors are those of ``load_image_encoder``. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[object, ...], object] = {}

    def image_encoder(
        self, model: str, *, cache: Path | None, trust_remote_code: bool, runtime: str
    ) -> ImageEncoder:
        """The encoder of photos of ``model``."""
        from crossmodal.models.registry import load_image_encoder

        return self._load(load_image_encoder, model, cache, trust_remote_code, runtime)

    def text_encoder(
        self, model: str, *, cache: Path | None, trust_remote_code: bool, runtime: str
    ) -> TextEncoder:
        """The encoder of sentences of ``model``."""
        from crossmodal.models.registry import load_text_encoder

        return self._load(load_text_encoder, model, cache, trust_remote_code, runtime)

    def _load(
        self,
        load: Callable[..., _Encoder],
        model: str,
        cache: Path | None,
        trust_remote_code: bool,
        runtime: str,
    ) -> _Encoder:
        key = (load, model, cache, trust_remote_code, runtime)
        # One at a time: two loads of one model would only wait for each other's memory.
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = load(
                    model, cache=cache, trust_remote_code=trust_remote_code, runtime=runtime
                )
            return self._loaded[key]  # type: ignore[return-value]  # what this key's load made
