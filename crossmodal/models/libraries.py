"""The libraries of published models, each imported when it is first needed, and without telemetry."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["import_hub", "import_open_clip", "import_torchvision", "import_transformers"]

# The operators that torchvision describes on import, although nothing here calls them.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A torch library's declarations last as long as the object does.
_declared: list[Any] = []


def import_hub() -> Any:
    """The module ``huggingface_hub``, set to send no usage data."""
    import huggingface_hub
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def import_open_clip() -> Any:
    """The module ``open_clip``: about two seconds the first time. Its downloads send no usage data."""
    import_hub()
    import_torchvision()
    import open_clip

    return open_clip


def import_transformers() -> Any:
    """The module ``transformers`` without its messages: about three seconds until its first model class."""
    import_hub()
    import_torchvision()
    import transformers

    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def import_torchvision() -> None:
    """Import torchvision, also beside a torch without CUDA, as open_clip and timm need it.

    The torchvision wheel of the Python Package Index is linked against CUDA. Beside the CPU build of torch
    its compiled part doesn't load, and the import fails ("operator torchvision::nms does not exist").
    Declaring the missing operators is enough, and is done only where the import fails for lack of them.
    """
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
