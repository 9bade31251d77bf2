"""One batch's gradients, at once or in chunks with the memory of one chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["accumulate_gradients"]

Items = TypeVar("Items", Tensor, Sequence[Sequence[int]])


def accumulate_gradients(
    images: Tensor | None,
    tokens: Sequence[Sequence[int]],
    encode_images: Callable[[Tensor], Tensor],
    encode_texts: Callable[[Sequence[Sequence[int]]], Tensor],
    objective: Callable[[Tensor | None, Tensor], Tensor],
    *,
    chunk_size: int | None,
    seed: int,
) -> float:
    """Add the gradients of ``objective(vectors of images, vectors of tokens)`` to all parameters; its value.

    ``images`` may be None where the objective takes none. With ``chunk_size`` that many rows go through a
    tower at once: first without gradients, then, when the objective has said what it wants of each vector,
    once more with them (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup"). The gradient is that of the whole batch. ``seed`` makes dropout the same in both passes.
    """
    if chunk_size is None:
        torch.manual_seed(seed)
        loss = objective(None if images is None else encode_images(images), encode_texts(tokens))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()
    photos = None if images is None else _Chunks(images, encode_images, chunk_size, seed)
    captions = _Chunks(tokens, encode_texts, chunk_size, seed + 1)
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
