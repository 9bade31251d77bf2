"""The folder that ``--output`` names."""

from __future__ import annotations

from pathlib import Path

from crossmodal.errors import StoreUnwritable

__all__ = ["make_output_folder"]


def make_output_folder(folder: Path) -> None:
    """Makes ``folder`` with its parents; raises StoreUnwritable where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnwritable(
            f"The folder {folder} cannot be made ({error.strerror}); choose another with --output."
        ) from error
