"""The losses by name, for the command line, which doesn't import torch to know them."""

from __future__ import annotations

__all__ = ["LOSSES"]

LOSSES = (
    "max-of-hinges",
    "sum-of-hinges",
    "triplet-random",
    "triplet-semi-hard",
    "triplet-hardest",
    "infonce",
    "mnr",
    "sigmoid",
)
