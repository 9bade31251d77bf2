"""The one wording for an index that another model built."""

from __future__ import annotations

import shlex
from pathlib import Path

from crossmodal.models.identity import ModelIdentity

__all__ = ["mismatch_message"]


def mismatch_message(path: Path, built_by: ModelIdentity | None, asked: ModelIdentity) -> str:
    """The sentences that name both models and say what to do."""
    if built_by is None:
        return (
            f"The index in {path} doesn't say which model built it, so {asked} cannot be used with it. "
            "Delete it and index again, or choose another --workspace."
        )
    return (
        f"The index in {path} was built by the model {built_by}, but {asked} is asked for. Use -m "
        f"{shlex.quote(built_by.name)} with those weights, or choose another --workspace, or delete the "
        "index and index again."
    )
