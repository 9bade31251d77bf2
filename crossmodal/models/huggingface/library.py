"""transformers, imported when it is first needed, and quiet."""

from __future__ import annotations

from typing import Any

from crossmodal.models.hub import import_hub
from crossmodal.models.torchvision_operators import import_torchvision

__all__ = ["import_transformers"]


def import_transformers() -> Any:
    """The module ``transformers``, quiet: about three seconds until its first model class is there."""
    import_hub()
    import_torchvision()
    import transformers

    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library
