"""Networks of torch in the numbers that a form computes with."""

from __future__ import annotations

import copy
from typing import Any

from crossmodal.models.runtimes.forms import Form

__all__ = ["in_form"]


def in_form(network: Any, form: Form) -> Any:
    """``network`` in the type of ``form``; the one that is given stays as it is."""
    return copy.deepcopy(network).bfloat16() if form.precision == "bf16" else network
