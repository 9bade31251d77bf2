"""Makes torchvision importable beside a torch without CUDA, which open_clip and timm need it to be.

The torchvision wheel of the Python Package Index is linked against CUDA. Beside the CPU build of torch its
compiled part doesn't load, and the import then fails at describing an operator that part would have brought
("operator torchvision::nms does not exist"). Nothing here calls these operators; it is enough that they
are declared.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["import_torchvision"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A torch library's declarations last as long as the object does.
_declared: list[Any] = []


def import_torchvision() -> None:
    """Import torchvision, and declare the missing operators only if that fails for want of them."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _declared:
            raise
        import torch

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)
        importlib.import_module("torchvision")
