"""transformers, imported when it is first needed, and the rule for code that comes with a model."""

from __future__ import annotations

from typing import Any

from crossmodal.errors import ModelError
from crossmodal.models.hub import import_hub
from crossmodal.models.torchvision_operators import import_torchvision

__all__ = ["import_transformers", "require_trust"]


def import_transformers() -> Any:
    """The module ``transformers``, quiet: about three seconds until its first model class is there."""
    import_hub()
    import_torchvision()
    import transformers

    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def require_trust(model: str, code: str | None, trusted: bool) -> None:
    """Raises ModelError where the model brings ``code`` to execute and nobody has said that it may."""
    if code is not None and not trusted:
        raise ModelError(
            f"The model {model} runs Python code of its own, from {code}, with all that you may do on this "
            "machine. Read it, and add --trust-remote-code if you trust it."
        )
