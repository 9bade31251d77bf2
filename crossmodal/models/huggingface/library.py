"""transformers, imported when it is first needed, and quiet."""

from __future__ import annotations

from typing import Any

from crossmodal.models.hub import import_hub
from crossmodal.models.torchvision_operators import import_torchvision

__all__ = ["import_transformers", "import_transformers_for_custom_code"]


def import_transformers() -> Any:
    """The module ``transformers``, quiet: about three seconds until its first model class is there."""
    import_hub()
    import_torchvision()
    import transformers

    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def import_transformers_for_custom_code() -> Any:
    """The same with a name that code written for transformers 4 imports, jina-clip's among it.

    transformers 5 calls CLIP's loss ``image_text_contrastive_loss``. Nothing here computes it, but where its
    old name is missing such code cannot be imported.
    """
    library = import_transformers()
    from transformers.models.clip import modeling_clip

    module: Any = modeling_clip
    if not hasattr(module, "clip_loss"):
        module.clip_loss = module.image_text_contrastive_loss
    return library
