"""What a stage minimises: a loss over pairs, a distance to a teacher, or both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crossmodal.training.config import Stage
from crossmodal.training.distillation import similarity_divergence, text_distance
from crossmodal.training.losses.modules import build
from crossmodal.training.stage_data import Batch

__all__ = ["Objective"]


class Objective(nn.Module):
    """The loss of a stage; its parameters are what the loss learns."""

    def __init__(self, stage: Stage, learned: Mapping[str, float]) -> None:
        """``learned`` is what an earlier loss learnt, by the names of its parameters.

        It is taken over where it has all that this loss learns (SigLIP's scale without its bias would start
        far off), and the stage doesn't say a ``scale`` itself.
        """
        super().__init__()
        self._stage = stage
        self.loss = None if stage.loss is None else build(stage.loss, stage)
        parameters = self.named_learned()
        if stage.scale is None and all(name in learned for name, _ in parameters):
            with torch.no_grad():
                for name, parameter in parameters:
                    parameter.fill_(learned[name])

    def named_learned(self) -> list[tuple[str, nn.Parameter]]:
        return [] if self.loss is None else list(self.loss.named_parameters())

    def learned(self) -> dict[str, float]:
        """What the loss has learnt so far."""
        return {name: parameter.item() for name, parameter in self.named_learned()}

    def forward(self, batch: Batch, images: Tensor | None, texts: Tensor) -> Tensor:
        """``images``: unit vectors of ``batch.images``; ``texts``: those of ``batch.tokens``."""
        stage, device = self._stage, texts.device
        pairs = texts[: batch.captions]
        value = texts.new_zeros(())
        if images is not None:
            images = images[batch.rows.to(device)]
        if self.loss is not None:
            value = value + self.loss(images, pairs, batch.photos.to(device))
        if stage.distil == "text":
            assert batch.teacher_texts is not None
            value = value + stage.teacher_weight * text_distance(texts, batch.teacher_texts.to(device))
        elif stage.distil == "similarity":
            assert images is not None
            assert batch.teacher_texts is not None
            assert batch.teacher_images is not None
            divergence = similarity_divergence(
                images,
                pairs,
                batch.teacher_images.to(device),
                batch.teacher_texts[: batch.captions].to(device),
                temperature=stage.temperature,
            )
            value = value + stage.teacher_weight * divergence
        return value
