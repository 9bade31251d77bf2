"""Losses against cases worked out by hand, open_clip's own, and gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from crossmodal.errors import SettingsError
from crossmodal.settings import LOSSES
from crossmodal.training.losses import (
    MINING,
    class_divergence,
    infonce,
    max_of_hinges,
    multiple_negatives_ranking,
    sigmoid,
    sum_of_hinges,
    triplet,
)
from crossmodal.training.objective import build_loss

# Rows are photos, columns captions: with the identity as photos, texts are the transposed similarities.
SIMILARITY = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.45], [0.0, 0.6, 0.7]])
IMAGES, TEXTS = torch.eye(3), SIMILARITY.T.contiguous()
DIFFERENT = torch.arange(3)

# Margin .2. By photo: row 1 has .8 + .2 - .9 = .1, row 2 has .45 + .2 - .5 = .15, row 3 has .1. By
# caption: column 2 has .8 + .2 - .5 = .5 and .6 + .2 - .5 = .3, the others none.
MAX = (0.1 + 0.15 + 0.1 + 0.5) / 3
SUM = (0.1 + 0.15 + 0.1 + 0.5 + 0.3) / 3


def pairs_of(rows: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, rows, 6, dtype=dtype, generator=generator)
    return nn.functional.normalize(images, dim=1), nn.functional.normalize(texts, dim=1)


def test_max_of_hinges_by_hand() -> None:
    assert max_of_hinges(IMAGES, TEXTS, DIFFERENT, margin=0.2).item() == pytest.approx(MAX, abs=1e-6)


def test_sum_of_hinges_by_hand() -> None:
    assert sum_of_hinges(IMAGES, TEXTS, DIFFERENT, margin=0.2).item() == pytest.approx(SUM, abs=1e-6)


def test_captions_of_one_photo_are_not_negatives_under_hinges() -> None:
    # Rows 1 and 2 are one photo: what is left is row 3 (.1), in column 2 photo 3 (.3), and row 2 with the
    # caption of photo 3 (.45 + .2 - .5 = .15).
    photos = torch.tensor([7, 7, 3])
    for loss in (max_of_hinges, sum_of_hinges):
        value = loss(IMAGES, TEXTS, photos, margin=0.2).item()
        assert value == pytest.approx((0.1 + 0.3 + 0.15) / 3, abs=1e-6)


def test_a_solved_batch_costs_nothing_and_a_collapsed_one_twice_the_margin() -> None:
    assert max_of_hinges(torch.eye(4), torch.eye(4), torch.arange(4), margin=0.2).item() == 0
    collapsed = torch.ones(4, 1)
    assert max_of_hinges(collapsed, collapsed, torch.arange(4), margin=0.2).item() == pytest.approx(0.4)


def test_semi_hard_triplets_by_hand() -> None:
    # By photo: .8 is below .9 (.1), .45 below .5 (.15), .6 below .7 (.1). By caption: of column 1 .2 (none),
    # column 2 has no negative below .5, so that its easiest (.6 + .2 - .5 = .3) counts, column 3 .45 (none).
    value = triplet(IMAGES, TEXTS, DIFFERENT, margin=0.2, mining="semi-hard").item()
    assert value == pytest.approx((0.1 + 0.15 + 0.1 + 0.3) / 3, abs=1e-6)


def test_the_hardest_triplets_are_max_of_hinges_and_with_several_captions_the_worst_of_them() -> None:
    value = triplet(IMAGES, TEXTS, DIFFERENT, margin=0.2, mining="hardest").item()
    assert value == pytest.approx(MAX, abs=1e-6)
    # Photos 1 and 2 are one. Least similar positives by row: .8, .2, .7; hardest negatives: .1, .45, .6.
    # By column: .2, .5, .7 and 0, .6, .45.
    value = triplet(IMAGES, TEXTS, torch.tensor([7, 7, 3]), margin=0.2, mining="hardest").item()
    assert value == pytest.approx((0.45 + 0.1 + 0 + 0.3 + 0) / 3, abs=1e-6)


def test_random_triplets_draw_every_negative_alike_and_no_positive() -> None:
    torch.manual_seed(0)
    drawn = [triplet(IMAGES, TEXTS, DIFFERENT, margin=0.2, mining="random").item() for _ in range(4000)]
    # Each anchor's hinge is .1, .15, .1 by photo and .5 or .3 by caption 2: half of each on average.
    assert sum(drawn) / len(drawn) == pytest.approx((0.1 / 2 + 0.15 / 2 + 0.1 / 2 + 0.4) / 3, abs=0.005)
    assert max(drawn) == pytest.approx((0.1 + 0.15 + 0.1 + 0.5) / 3, abs=1e-6)


def test_infonce_by_hand() -> None:
    def entropy(scores: list[float], pair: int) -> float:
        return math.log(sum(math.exp(2 * score) for score in scores)) - 2 * scores[pair]

    rows = [entropy([0.9, 0.8, 0.1], 0), entropy([0.2, 0.5, 0.45], 1), entropy([0.0, 0.6, 0.7], 2)]
    columns = [entropy([0.9, 0.2, 0.0], 0), entropy([0.8, 0.5, 0.6], 1), entropy([0.1, 0.45, 0.7], 2)]
    value = infonce(IMAGES, TEXTS, DIFFERENT, scale=2.0).item()
    assert value == pytest.approx((sum(rows) + sum(columns)) / 6, abs=1e-6)
    ranking = multiple_negatives_ranking(IMAGES, TEXTS, DIFFERENT, scale=2.0).item()
    assert ranking == pytest.approx(sum(columns) / 3, abs=1e-6)
    # With rows 1 and 2 of one photo, neither is in the other's denominator.
    rows = [entropy([0.9, 0.1], 0), entropy([0.5, 0.45], 0), rows[2]]
    columns = [entropy([0.9, 0.0], 0), entropy([0.5, 0.6], 0), columns[2]]
    value = infonce(IMAGES, TEXTS, torch.tensor([7, 7, 3]), scale=2.0).item()
    assert value == pytest.approx((sum(rows) + sum(columns)) / 6, abs=1e-6)


def test_sigmoid_by_hand() -> None:
    def cost(score: float, belongs: bool) -> float:
        return math.log1p(math.exp(-(3 * score - 1) if belongs else 3 * score - 1))

    values = SIMILARITY.tolist()
    different = sum(cost(values[i][j], i == j) for i in range(3) for j in range(3)) / 3
    value = sigmoid(IMAGES, TEXTS, DIFFERENT, scale=3.0, bias=-1.0).item()
    assert value == pytest.approx(different, abs=1e-6)
    photos = [7, 7, 3]
    shared = sum(cost(values[i][j], photos[i] == photos[j]) for i in range(3) for j in range(3)) / 3
    value = sigmoid(IMAGES, TEXTS, torch.tensor(photos), scale=3.0, bias=-1.0).item()
    assert value == pytest.approx(shared, abs=1e-6)


def test_with_distinct_photos_infonce_and_sigmoid_are_open_clips() -> None:
    from crossmodal.models.libraries import import_open_clip

    import_open_clip()
    from open_clip.loss import ClipLoss, SigLipLoss

    for seed in range(3):
        images, texts = pairs_of(9, seed, torch.float32)
        scale, bias = torch.tensor(14.0), torch.tensor(-3.0)
        ours = infonce(images, texts, torch.arange(9), scale=scale)
        torch.testing.assert_close(ours, ClipLoss()(images, texts, scale))
        ours = sigmoid(images, texts, torch.arange(9), scale=scale, bias=bias)
        torch.testing.assert_close(ours, SigLipLoss()(images, texts, scale, bias))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    loss = build_loss(name, margin=0.2, scale=None).double()
    images, texts = pairs_of(5, seed=3)
    photos = torch.tensor([0, 1, 1, 2, 3])
    learned = tuple(loss.parameters())

    def value(image: Tensor, text: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(1)  # so that random triplets are the same ones at each evaluation
        unit = nn.functional.normalize
        result = loss(unit(image, dim=1), unit(text, dim=1), photos)
        assert isinstance(result, Tensor)
        return result

    assert torch.autograd.gradcheck(value, (images.requires_grad_(), texts.requires_grad_(), *learned))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"triplet-random"}))
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), photos=st.lists(st.integers(0, 4), min_size=2, max_size=9))
def test_the_order_of_rows_makes_no_difference(name: str, seed: int, photos: list[int]) -> None:
    loss = build_loss(name, margin=0.2, scale=None).double()
    images, texts = pairs_of(len(photos), seed)
    numbers = torch.tensor(photos)
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed))
    value = loss(images, texts, numbers)
    assert torch.isfinite(value)
    torch.testing.assert_close(loss(images[order], texts[order], numbers[order]), value)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_one_photo_has_no_negatives(name: str) -> None:
    loss = build_loss(name, margin=0.2, scale=None)
    images, texts = (half.float().requires_grad_() for half in pairs_of(4, seed=5))
    value = loss(images, texts, torch.zeros(4, dtype=torch.int64))
    value.backward()
    if name != "sigmoid":
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert images.grad is not None
        assert images.grad.abs().max().item() == pytest.approx(0, abs=1e-6)
    else:
        # All cells are positives: pulling them together is all that is left.
        closer = loss(images.detach(), images.detach(), torch.zeros(4, dtype=torch.int64))
        assert closer.item() < value.item()


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_captions_of_ones_own_photo_push_nothing_away(name: str, seed: int) -> None:
    """Moving towards a second caption of the same photo never makes a loss larger than moving away."""
    torch.manual_seed(seed)
    loss = build_loss(name, margin=0.2, scale=None).double()
    images, texts = pairs_of(4, seed)
    images = images[torch.tensor([0, 0, 2, 3])]
    photos = torch.tensor([0, 0, 1, 2])
    cells = (images @ texts.T).detach().requires_grad_()

    # With the identity as photos the losses see ``cells`` as the similarities.
    torch.manual_seed(seed)
    value = loss(torch.eye(4, dtype=torch.float64), cells.T, photos)
    (gradient,) = torch.autograd.grad(value, cells)
    assert gradient[0, 1] <= 0
    assert gradient[1, 0] <= 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_mining_costs_more_than_the_hardest(seed: int) -> None:
    torch.manual_seed(seed)
    images, texts = pairs_of(8, seed)
    hardest, *others = (
        triplet(images, texts, torch.arange(8), margin=0.2, mining=mining).item()
        for mining in reversed(MINING)
    )
    # Where they choose the same, rounding may tell them apart.
    assert all(other <= hardest + 1e-12 for other in others)


def test_what_a_loss_learns() -> None:
    learned = {name: dict(build_loss(name, margin=0.2, scale=None).named_parameters()) for name in LOSSES}
    assert {name for name, parameters in learned.items() if parameters} == {"infonce", "sigmoid"}
    assert learned["infonce"]["log_scale"].exp().item() == pytest.approx(1 / 0.07)
    assert learned["sigmoid"]["log_scale"].exp().item() == pytest.approx(10)
    assert learned["sigmoid"]["bias"].item() == -10
    given_scale = dict(build_loss("infonce", margin=0.2, scale=20.0).named_parameters())
    assert given_scale["log_scale"].exp().item() == pytest.approx(20)


def test_the_scale_of_infonce_stops_at_100() -> None:
    loss = build_loss("infonce", margin=0.2, scale=None)
    images, texts = pairs_of(6, seed=2)
    with torch.no_grad():
        dict(loss.named_parameters())["log_scale"].fill_(7.0)
    expected = infonce(images, texts, torch.arange(6), scale=100.0)
    value = loss(images, texts, torch.arange(6))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    # At its limit it still learns which way to go, or it could never come down again.
    value.backward()
    gradient = dict(loss.named_parameters())["log_scale"].grad
    assert gradient is not None
    assert abs(gradient.item()) > 1e-3


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(SettingsError, match=r"no loss 'hinge'; there are max-of-hinges, .*sigmoid"):
        build_loss("hinge", margin=0.2, scale=None)


def test_class_divergence_is_none_where_the_cosines_say_what_the_classifier_says() -> None:
    images, texts = pairs_of(5, seed=8)
    classifier = nn.functional.log_softmax(12.0 * images @ texts[:3].T, dim=1)
    assert class_divergence(images, texts[:3], classifier, scale=12.0).item() == pytest.approx(0, abs=1e-9)
    certain = nn.functional.log_softmax(torch.tensor([[40.0, 0.0]]), dim=1)
    # The photo is as near to one class as to the other: log 2 is what is left to learn.
    even = class_divergence(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), certain, scale=9
    )
    assert even.item() == pytest.approx(math.log(2), abs=1e-6)
