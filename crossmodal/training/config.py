"""What a training run depends on, so that the same configuration makes the same model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from crossmodal.errors import SettingsError

__all__ = ["TrainingConfig"]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A VSE++ training run on the frozen features of a CNN.

    ``data`` is a data set's name or path. ``train_split`` and ``dev_split`` are splits of it; where both are
    None, ``dev_share`` of the photos (chosen by their ids) are held out. ``initial_cnn`` is a VSE++ model
    whose CNN is taken over, or a timm state dict of mobilenet_edgetpu_100 (safetensors).
    """

    data: str
    train_split: str | None = None
    dev_split: str | None = None
    dev_share: float = 0.1
    initial_cnn: str = "vse"
    # Photos: crop or squash to 224 x 224, and how many views of each are used (see features.views_of).
    resize: Literal["crop", "squash"] = "squash"
    views: int = 2
    # The model: length of a vector and of a word's embedding; rarer words count as unknown.
    dimension: int = 512
    word_dimension: int = 300
    min_word_count: int = 4
    # The loss: sum of hinges for the first epochs, then max of hinges.
    margin: float = 0.2
    sum_epochs: int = 12
    # The optimisation (Adam): linear warm-up, then cosine to 0 at the last epoch.
    epochs: int = 18
    batch_size: int = 128
    learning_rate: float = 2e-3
    warm_up_steps: int = 200
    clip_norm: float = 2.0
    dropout: float = 0.3
    feature_dropout: float = 0.1
    # Epochs without a better dev result after which training ends; counted after ``sum_epochs``.
    patience: int = 6
    # The GRU's products in bfloat16: three times as fast where the processor has AMX, slower elsewhere.
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("dev_share", 0.01, 0.5),
            ("views", 1, 64),
            ("dimension", 1, 8192),
            ("word_dimension", 1, 8192),
            ("min_word_count", 1, 10_000),
            ("margin", 0.0, 2.0),
            ("sum_epochs", 0, 10_000),
            ("epochs", 1, 10_000),
            ("batch_size", 2, 65_536),
            ("learning_rate", 0.0, 10.0),
            ("warm_up_steps", 0, 1_000_000),
            ("clip_norm", 0.0, 1e6),
            ("dropout", 0.0, 0.95),
            ("feature_dropout", 0.0, 0.95),
            ("patience", 1, 10_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(
                    f"The training setting {name} is {value}; it must be from {low} to {high}."
                )
        if (self.train_split is None) != (self.dev_split is None):
            raise SettingsError(
                "Of train_split and dev_split only one is given; give both, or neither to hold photos out."
            )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainingConfig:
        """The configuration in a JSON object. Raises SettingsError for a key or a type that isn't known."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise SettingsError(
                f"There is no training setting {', '.join(unknown)}; there are {', '.join(sorted(known))}."
            )
        if "data" not in value:
            raise SettingsError("The training setting data is missing: a data set's name or path.")
        hints = get_type_hints(cls)
        for name, setting in value.items():
            if not _has_type(setting, hints[name]):
                raise SettingsError(f"The training setting {name} cannot be {setting!r}.")
        return cls(**value)

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """The configuration in a JSON file. Raises SettingsError where it cannot be read or used."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"The training configuration {path} cannot be read: {error}.") from error
        if not isinstance(value, dict):
            raise SettingsError(f"The training configuration {path} is not a JSON object.")
        return cls.from_json(value)

    def to_json(self) -> dict[str, Any]:
        """All settings, the defaults included."""
        return asdict(self)


def _has_type(value: object, hint: Any) -> bool:
    """Whether a JSON value fits a field's type: a whole number is a float too, and true is not a number."""
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    options = get_args(hint)
    if not options:
        return isinstance(value, hint)
    return any(
        value == option or (isinstance(option, type) and isinstance(value, option)) for option in options
    )
