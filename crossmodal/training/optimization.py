"""One step of the optimisation: gradients, at once or in chunks, rates, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from crossmodal.errors import SettingsError
from crossmodal.training.config import Stage
from crossmodal.training.features import Tokens
from crossmodal.training.trainable.base import Trainable

__all__ = ["Average", "accumulate_gradients", "build_optimizer", "rate_at", "set_rates", "trained_parameters"]

Items = TypeVar("Items", Tensor, Tokens | Tensor)


def accumulate_gradients(
    images: Tensor | None,
    texts: Tokens | Tensor,
    encode_images: Callable[[Tensor], Tensor],
    encode_texts: Callable[[Any], Tensor],
    objective: Callable[[Tensor | None, Tensor], Tensor],
    *,
    chunk_size: int | None,
    seed: int,
) -> float:
    """Add the gradients of ``objective(vectors of images, vectors of texts)`` to all parameters; its value.

    ``images`` may be None where the objective takes none. With ``chunk_size`` that many rows go through a
    tower at once: first without gradients, then, when the objective has said what it wants of each vector,
    once more with them (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup"). The gradient is that of the whole batch. ``seed`` makes dropout the same in both passes.
    """
    if chunk_size is None:
        torch.manual_seed(seed)
        loss = objective(None if images is None else encode_images(images), encode_texts(texts))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()
    photos = None if images is None else _Chunks(images, encode_images, chunk_size, seed)
    captions = _Chunks(texts, encode_texts, chunk_size, seed + 1)
    loss = objective(None if photos is None else photos.vectors, captions.vectors)
    loss.backward()  # type: ignore[no-untyped-call]
    for side in (photos, captions):
        if side is not None:
            side.backward()
    return loss.item()


class _Chunks(Generic[Items]):
    """One tower's vectors, whose gradients reach its parameters chunk by chunk."""

    def __init__(self, items: Items, encode: Callable[[Items], Tensor], size: int, seed: int) -> None:
        self._parts: list[Items] = [items[start : start + size] for start in range(0, len(items), size)]
        self._encode: Callable[[Items], Tensor] = encode
        self._seed = seed
        with torch.no_grad():
            vectors = torch.cat([self._encode_part(number) for number in range(len(self._parts))])
        self.vectors = vectors.requires_grad_()

    def backward(self) -> None:
        gradient = self.vectors.grad
        if gradient is None:
            return
        start = 0
        for number in range(len(self._parts)):
            vectors = self._encode_part(number)
            if vectors.requires_grad:
                vectors.backward(gradient[start : start + len(vectors)])  # type: ignore[no-untyped-call]
            start += len(vectors)

    def _encode_part(self, number: int) -> Tensor:
        torch.manual_seed(self._seed + 2 * number)
        return self._encode(self._parts[number])


def trained_parameters(
    model: Trainable, stage: Stage, *, freeze_word_embeddings: bool
) -> dict[str, nn.Parameter]:
    """The parameters of ``model`` that ``stage`` trains, by name.

    Raises SettingsError where blocks or layers are to stay frozen in a trunk that isn't counted in them.
    """
    rates = _rates(stage)
    counted = {
        "image_trunk": ("frozen_blocks", stage.frozen_blocks, "models"),
        "text_trunk": ("frozen_layers", stage.frozen_layers, "transformers"),
    }
    trained = {}
    for name, parameter in model.named_parameters():
        part = model.part_of(name)
        frozen = freeze_word_embeddings and model.is_word_embedding(name)
        if part is None or rates[part] == 0:
            continue
        setting, count, known_to = counted.get(part, ("", 0, ""))
        if count:
            layer = model.layer_of(name)
            if layer is None:
                raise SettingsError(
                    f"The training setting {setting} is {count}, which only this project's own {known_to} "
                    "know: set it to 0."
                )
            frozen = frozen or layer < count
        if not frozen:
            trained[name] = parameter
    return trained


def build_optimizer(
    model: Trainable, loss: nn.Module, stage: Stage, trained: Mapping[str, nn.Parameter]
) -> torch.optim.AdamW:
    """AdamW with a group for each part of the model, each with and without weight decay.

    Vectors and scalars (biases, normalisation, temperature) don't decay, as is usual. What the loss learns
    goes by the rate of the heads, or the highest there is where heads are frozen. Everything else is frozen
    here.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    rates = _rates(stage)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        part = model.part_of(name)
        assert part is not None
        decay = stage.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rates[part], decay), []).append(parameter)
    for parameter in loss.parameters():
        groups.setdefault((stage.head_rate or max(rates.values()), 0.0), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "top_rate": rate, "weight_decay": decay}
        for (rate, decay), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]
    return torch.optim.AdamW(described, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate is now its highest times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["top_rate"] * factor


def rate_at(step: int, warm_up: int, steps: int) -> float:
    """The share of the highest rate at ``step``, counted from 0, of ``steps``.

    A linear warm-up times a cosine to 0 (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    """
    return min(1.0, (step + 1) / (warm_up + 1)) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


class Average:
    """The exponential moving average of weights (Polyak averaging), which follows faster at the start.

    After n steps the decay is min(decay, (1 + n) / (10 + n)), so that the average isn't held back by the
    values it started from. Without ``decay`` it is the weights themselves.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float | None) -> None:
        self._parameters = parameters
        self._decay = decay or None
        self._steps = 0
        self.values = {name: value.detach().clone() for name, value in parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' values after a step into account."""
        self._steps += 1
        if self._decay is None:
            return
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter, 1 - decay)

    def weights(self) -> Mapping[str, Tensor]:
        """The averaged weights by name; not a copy."""
        return self.values or self._parameters

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps, "values": self.values}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of ``state``."""
        self._steps = state["steps"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)


def _rates(stage: Stage) -> dict[str, float]:
    return {
        "image_trunk": stage.image_trunk_rate,
        "text_trunk": stage.text_trunk_rate,
        "head": stage.head_rate,
    }
