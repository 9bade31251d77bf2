"""VSE++'s losses against cases worked out by hand, and their gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crossmodal.training.losses import max_of_hinges, sum_of_hinges

# Rows are photos, columns captions: with the identity as photos, texts are the transposed similarities.
SIMILARITY = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.45], [0.0, 0.6, 0.7]])
IMAGES, TEXTS = torch.eye(3), SIMILARITY.T.contiguous()
DIFFERENT = torch.arange(3)

# Margin .2. By photo: row 1 has .8 + .2 - .9 = .1, row 2 has .45 + .2 - .5 = .15, row 3 has .1. By
# caption: column 2 has .8 + .2 - .5 = .5 and .6 + .2 - .5 = .3, the others none.
MAX = (0.1 + 0.15 + 0.1 + 0.5) / 3
SUM = (0.1 + 0.15 + 0.1 + 0.5 + 0.3) / 3


def test_max_of_hinges_by_hand() -> None:
    assert max_of_hinges(IMAGES, TEXTS, DIFFERENT, margin=0.2).item() == pytest.approx(MAX, abs=1e-6)


def test_sum_of_hinges_by_hand() -> None:
    assert sum_of_hinges(IMAGES, TEXTS, DIFFERENT, margin=0.2).item() == pytest.approx(SUM, abs=1e-6)


def test_captions_of_one_photo_are_not_negatives_of_each_other() -> None:
    # Rows 1 and 2 are one photo: what is left is row 3 (.1) and, in column 2, photo 3 (.3).
    photos = torch.tensor([7, 7, 3])
    remaining = {max_of_hinges: 0.1 + 0.3 + 0.15, sum_of_hinges: 0.1 + 0.3 + 0.15}
    for loss, expected in remaining.items():
        # Row 2 still has the caption of photo 3 (.45 + .2 - .5 = .15).
        assert loss(IMAGES, TEXTS, photos, margin=0.2).item() == pytest.approx(expected / 3, abs=1e-6)


def test_a_batch_of_one_photo_costs_nothing() -> None:
    same = torch.zeros(3, dtype=torch.int64)
    assert max_of_hinges(IMAGES, TEXTS, same, margin=0.2).item() == 0
    assert sum_of_hinges(IMAGES, TEXTS, same, margin=0.2).item() == 0


def test_a_solved_batch_costs_nothing_and_a_collapsed_one_twice_the_margin() -> None:
    assert max_of_hinges(torch.eye(4), torch.eye(4), torch.arange(4), margin=0.2).item() == 0
    collapsed = torch.ones(4, 1)
    assert max_of_hinges(collapsed, collapsed, torch.arange(4), margin=0.2).item() == pytest.approx(0.4)


@pytest.mark.parametrize("loss", [max_of_hinges, sum_of_hinges])
def test_gradients_agree_with_finite_differences(loss: object) -> None:
    assert callable(loss)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    texts = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    photos = torch.tensor([0, 1, 1, 2, 3])

    def value(image: Tensor, text: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        result = loss(unit(image, dim=1), unit(text, dim=1), photos, margin=0.2)
        assert isinstance(result, Tensor)
        return result

    assert torch.autograd.gradcheck(value, (images, texts))
