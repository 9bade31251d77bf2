"""Whether a model's weights have been downloaded, told from the folders alone."""

from __future__ import annotations

from pathlib import Path

from crossmodal.models.zoo.record import ModelRecord

__all__ = ["is_cached"]

_WEIGHTS = ("*.safetensors", "*.bin")


def is_cached(record: ModelRecord, cache: Path) -> bool:
    """Whether ``cache``, the folder of ``--model-cache``, holds the weights of ``record``.

    Quick: the model hub's own library, which knows better, takes half a second to import.
    """
    if record.repository is None:
        return False
    snapshots = cache / f"models--{record.repository.replace('/', '--')}" / "snapshots"
    # A link to a file that is still on its way leads nowhere.
    return any(file.is_file() for pattern in _WEIGHTS for file in snapshots.glob(f"*/{pattern}"))
