"""Options behind a model's name: ``vse?dim=128`` or ``vse?dim=128&centering=/data/centering.safetensors``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded

__all__ = ["Adaptation", "adapted_name", "parse_adaptation"]

_DIM = "dim"
_CENTERING = "centering"


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What is done to the vectors of ``model`` before they are stored or compared.

    ``dim`` keeps the first components and scales them to unit length (Matryoshka truncation, Kusupati et al.
    2022); ``centering`` is a file with the mean of each modality, which is then subtracted. None: not done.
    """

    model: str
    dim: int | None = None
    centering: Path | None = None

    @property
    def name(self) -> str:
        """The canonical name: ``dim`` first, the file's path absolute and percent-encoded."""
        options = []
        if self.dim is not None:
            options.append(f"{_DIM}={self.dim}")
        if self.centering is not None:
            # Encoded, because a path may hold "&" and "?", and names stand in YAML and in shell commands.
            options.append(f"{_CENTERING}={quote(str(self.centering.absolute()))}")
        return f"{self.model}?{'&'.join(options)}" if options else self.model


def parse_adaptation(name: str) -> Adaptation | None:
    """The options behind the last ``?`` of ``name``; None where there are none.

    A path may hold a ``?`` too, so what follows counts as options only if every part is ``dim=...`` or
    ``centering=...``. A path in ``centering`` is percent-decoded; a relative one is of the current folder.

    Raises ModelError for an option that is given twice or has a value that cannot be used.
    """
    model, mark, text = name.rpartition("?")
    pairs = [part.partition("=") for part in text.split("&")]
    if not mark or not model or not all(key in (_DIM, _CENTERING) and sign for key, sign, _ in pairs):
        return None
    options = {key: value for key, _, value in pairs}
    if len(options) < len(pairs):
        raise ModelError(
            f"The model {name!r} gives an option twice; each of dim and centering can stand once."
        )
    return Adaptation(model, _read_dim(name, options.get(_DIM)), _read_path(name, options.get(_CENTERING)))


def adapted_name(model: str, *, dim: int | None = None, centering: Path | None = None) -> str:
    """The name ``model`` with ``dim`` and ``centering`` in place of those that it may have already."""
    adaptation = parse_adaptation(model) or Adaptation(model)
    if dim is not None:
        adaptation = replace(adaptation, dim=dim)
    if centering is not None:
        adaptation = replace(adaptation, centering=expanded(centering))
    return adaptation.name


def _read_dim(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ModelError(f"The model {name!r} has dim={text}; it must be a whole number, 1 or more.")
    return int(text)


def _read_path(name: str, text: str | None) -> Path | None:
    if text is None:
        return None
    if not text:
        raise ModelError(f"The model {name!r} names no file after centering=.")
    return expanded(unquote(text))
