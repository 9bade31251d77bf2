"""open_clip, imported when it is first needed and kept from talking to anyone unasked."""

from __future__ import annotations

from typing import Any

from crossmodal.models.hub import import_hub
from crossmodal.models.torchvision_operators import import_torchvision

__all__ = ["import_open_clip"]


def import_open_clip() -> Any:
    """The module ``open_clip``: about two seconds the first time. Downloads it makes send no usage data."""
    import_hub()
    import_torchvision()
    import open_clip

    return open_clip
