"""What ``-t train`` does without a configuration: fine-tune a model on somebody's own photos."""

from __future__ import annotations

from dataclasses import dataclass

from crossmodal.models.native.text_config import GruConfig
from crossmodal.models.registry import find_native
from crossmodal.training.config import Stage, TrainingConfig

__all__ = ["fine_tuning"]


@dataclass(frozen=True)
class _Rates:
    """What suits a kind of text tower; the loss is that which the kind's published weights were made with."""

    loss: str
    text_trunk: float
    head: float


_GRU = _Rates("max-of-hinges", text_trunk=2e-4, head=1e-4)
_TRANSFORMER = _Rates("infonce", text_trunk=2e-5, head=2e-4)
_OPEN_CLIP = _Rates("infonce", text_trunk=5e-6, head=2e-5)


def fine_tuning(
    data: str, model: str, *, loss: str | None = None, split: str | None = None, num_docs: int | None = None
) -> TrainingConfig:
    """A cautious run on the photos and captions of ``data``: the image trunk frozen, small rates, two views.

    A few hundred photos take about a minute, nearly all of it for the photos' features, which are kept. A
    tenth of the photos (of ``split``, if given) is held out to choose the epoch by, and the model as it was
    takes part in that choice.
    """
    checkpoint = find_native(model)
    if checkpoint is None:
        rates = _OPEN_CLIP
    else:
        rates = _GRU if isinstance(checkpoint.text, GruConfig) else _TRANSFORMER
    return TrainingConfig(
        data=data,
        num_docs=num_docs,
        train_split=split,
        model=model,
        min_word_count=3,
        average_decay=0.99,
        patience=3,
        stages=(
            Stage(
                epochs=10,
                loss=loss or rates.loss,
                batch_size=64,
                text_trunk_rate=rates.text_trunk,
                head_rate=rates.head,
                warm_up_steps=10,
                views=2,
            ),
        ),
    )
