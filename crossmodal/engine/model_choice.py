"""Which model a command means: ``-m``, with what ``--dim`` and ``--centering`` add to it."""

from __future__ import annotations

from crossmodal.errors import SettingsError
from crossmodal.models import DEFAULT_MODEL
from crossmodal.models.adaptation import adapted_name, parse_adaptation
from crossmodal.settings import Settings

__all__ = ["chosen_model"]


def chosen_model(settings: Settings, default: str = DEFAULT_MODEL) -> str:
    """The name of the model with its options: ``vse`` and ``--dim 128`` give ``vse?dim=128``.

    Without ``-m`` it is ``default``, which may have options already, as the model has that built an index:
    ``--dim`` and ``--centering`` replace those, and opening the index fails if that is another model.

    Raises SettingsError where ``-m`` itself says something else than ``--dim`` or ``--centering``.
    """
    name = adapted_name(settings.model or default, dim=settings.dim, centering=settings.centering)
    given = parse_adaptation(settings.model) if settings.model else None
    wanted = parse_adaptation(name)
    if given is not None and wanted is not None:
        for option in ("dim", "centering"):
            one, other = getattr(given, option), getattr(settings, option)
            if one is not None and other is not None and getattr(wanted, option) != one:
                raise SettingsError(f"-m {settings.model} and --{option} {other} contradict each other.")
    return name
