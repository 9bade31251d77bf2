"""Names of the zoo: ``NAME``, or ``NAME:PATH`` for local files of that model; and which are downloaded."""

from __future__ import annotations

import difflib
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.zoo.models import OPEN_CLIP_MODELS, TRANSFORMERS_MODELS, VSEPP_MODELS, native_models
from crossmodal.models.zoo.record import ModelRecord

__all__ = ["find_record", "is_cached", "near_names", "split_name", "zoo"]

_WEIGHTS = ("*.safetensors", "*.bin")


def zoo() -> tuple[ModelRecord, ...]:
    """Every model of the zoo, the shipped ones first. Quick: it imports neither torch nor a model library."""
    return (*native_models(), *_published())


def find_record(name: str) -> ModelRecord | None:
    """The published model called ``name``, or None; ``registry.find_native`` finds the shipped ones."""
    return next((record for record in _published() if record.name == name), None)


def split_name(name: str) -> tuple[ModelRecord, Path | None] | None:
    """The published model and the local file or folder that ``NAME`` or ``NAME:PATH`` means; None for others.

    Raises ModelError where there is nothing at the path.
    """
    model, colon, given = name.partition(":")
    record = find_record(model)
    if record is None or not colon:
        return None if record is None else (record, None)
    path = expanded(given)
    if not given or not path.exists():
        raise ModelError(f"There is no file or folder {given!r}, from which {model} should be read.")
    return record, path


def near_names(name: str, others: tuple[str, ...] = ()) -> list[str]:
    """Up to three names of the zoo, or of ``others``, that look like ``name``, the closest first."""
    known = [*(record.name for record in _published()), *others]
    return difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)


def _published() -> tuple[ModelRecord, ...]:
    return (*OPEN_CLIP_MODELS, *TRANSFORMERS_MODELS, *VSEPP_MODELS)


def is_cached(record: ModelRecord, cache: Path) -> bool:
    """Whether ``cache``, the folder of ``--model-cache``, holds the weights of ``record``.

    Quick: the model hub's own library, which knows better, takes half a second to import.
    """
    if record.repository is None:
        return False
    snapshots = cache / f"models--{record.repository.replace('/', '--')}" / "snapshots"
    # A link to a file that is still on its way leads nowhere.
    return any(file.is_file() for pattern in _WEIGHTS for file in snapshots.glob(f"*/{pattern}"))
