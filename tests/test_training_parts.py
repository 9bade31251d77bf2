"""The parts of training that can be checked by themselves: batches, chunks, rates, averages, stores."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TOY_IMAGES
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from crossmodal.errors import DataSetError
from crossmodal.records import Record
from crossmodal.training.classes import ClassTeacher, class_names
from crossmodal.training.config import MoreData, TrainingConfig
from crossmodal.training.content_store import ContentStore
from crossmodal.training.losses import distance, infonce, similarity_divergence
from crossmodal.training.mixing import best_mean, best_means, trunks_of
from crossmodal.training.optimization import Average, accumulate_gradients, rate_at
from crossmodal.training.pairs import Pairs, extra_texts, read_captions
from crossmodal.training.reports import Metrics
from crossmodal.training.sources import training_records
from crossmodal.training.stage_data import batches_of, number_of_batches


@given(
    photos=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    captions_per_photo=st.integers(1, 5),
    groups=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_an_epoch_shows_each_caption_at_most_once_in_groups_by_photo(
    photos: list[int], captions_per_photo: int, groups: int, seed: int
) -> None:
    rows = np.array(photos)
    size = groups * captions_per_photo
    batches = batches_of(rows, size, captions_per_photo, np.random.default_rng(seed))
    assert len(batches) == number_of_batches(rows, size, captions_per_photo)
    shown = np.concatenate(batches)
    assert len(set(shown.tolist())) == len(shown)
    assert all(len(batch) <= size for batch in batches)
    # What is left out doesn't fill a batch, unless there is only one, which then has all that fits.
    all_groups = sum(-(-count // captions_per_photo) for count in Counter(photos).values())
    left_out = len(photos) - len(shown)
    assert left_out <= captions_per_photo * max(all_groups % groups, 0)
    if all_groups <= groups:
        assert left_out == 0
    for batch in batches[:-1]:
        # A full batch has as many groups as it can take.
        assert len(batch) > 0
        assert len(set(rows[batch].tolist())) <= groups


def test_the_order_is_the_seeds_and_differs_between_epochs() -> None:
    photos = np.repeat(np.arange(20), 5)
    first, again, other = (
        batches_of(photos, 10, 2, np.random.default_rng([7, epoch])) for epoch in (1, 1, 2)
    )
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    pairs = Counter(photo for batch in first for photo in photos[batch].tolist())
    assert set(pairs.values()) == {5}


class Towers(nn.Module):
    """Two small towers, which are what the objective's gradients have to reach."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 4)).double()
        self.text = nn.Embedding(30, 4).double()
        self.log_scale = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def images(self, pixels: Tensor) -> Tensor:
        return nn.functional.normalize(self.image(pixels), dim=1)

    def texts(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return nn.functional.normalize(self.text(torch.tensor(tokens)).mean(dim=1), dim=1)

    def gradients(self, chunk_size: int | None, seed: int = 5) -> tuple[float, dict[str, Tensor]]:
        pixels = torch.randn(11, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        tokens = [[row, row + 1, 2 * row] for row in range(11)]
        photos = torch.arange(11) // 2
        self.zero_grad()
        value = accumulate_gradients(
            pixels,
            tokens,
            self.images,
            self.texts,
            lambda images, texts: infonce(
                images if images is not None else texts, texts, photos, scale=self.log_scale.exp()
            ),
            chunk_size=chunk_size,
            seed=seed,
        )
        found = {name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None}
        return value, found


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 11, 100])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk_size: int) -> None:
    towers = Towers()
    whole_value, whole = towers.gradients(None)
    value, chunked = towers.gradients(chunk_size)
    assert value == pytest.approx(whole_value, abs=1e-12)
    assert chunked.keys() == whole.keys() == dict(towers.named_parameters()).keys()
    for name, gradient in whole.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(chunked[name], gradient, rtol=1e-9, atol=1e-12)


def test_both_passes_of_a_chunk_drop_the_same_and_the_seed_says_what() -> None:
    towers = Towers(dropout=0.5)
    value, first = towers.gradients(4)
    again, second = towers.gradients(4)
    other, _ = towers.gradients(4, seed=6)
    assert value == again != other
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, rtol=0, atol=0)
    # Along the gradient the value falls as the gradient says: it is that of the masks that were drawn.
    step = 1e-6
    with torch.no_grad():
        for name, parameter in towers.named_parameters():
            parameter -= step * first[name]
    fallen = value - towers.gradients(4)[0]
    assert fallen == pytest.approx(step * sum(float((g**2).sum()) for g in first.values()), rel=1e-3)


def test_a_frozen_tower_gets_no_gradient_and_costs_no_second_pass() -> None:
    towers = Towers()
    towers.image.requires_grad_(False)
    _, whole = towers.gradients(None)
    _, chunked = towers.gradients(3)
    assert set(chunked) == {"text.weight", "log_scale"}
    torch.testing.assert_close(chunked["text.weight"], whole["text.weight"])


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    assert rate_at(0, 9, 1000) == pytest.approx(0.1, rel=1e-4)
    assert rate_at(9, 9, 1000) == pytest.approx(1, abs=1e-3)
    assert rate_at(500, 9, 1000) == pytest.approx(0.5)
    assert rate_at(999, 9, 1000) == pytest.approx(0, abs=1e-5)
    assert rate_at(0, 0, 1) == 1


def test_the_average_follows_the_weights_and_can_be_taken_up_again() -> None:
    weight = nn.Parameter(torch.zeros(1))
    average, expected = Average({"w": weight}, 0.5), 0.0
    for step in range(1, 8):
        with torch.no_grad():
            weight.fill_(step)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        if step == 3:
            resumed = Average({"w": weight}, 0.5)
            resumed.restore(average.state())
        elif step > 3:
            resumed.update()
    assert average.weights()["w"].item() == pytest.approx(expected)
    assert resumed.weights()["w"].item() == pytest.approx(expected)
    assert Average({"w": weight}, None).weights()["w"].item() == 7


def test_distances_to_a_teacher_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    teacher = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    assert distance(student, teacher).item() == pytest.approx((0.2 + 0.0) / 2)
    images = torch.eye(2)
    assert similarity_divergence(images, student, images, student, temperature=0.1).item() == pytest.approx(0)
    # Photos by captions: student [[1, .6], [0, .8]], teacher [[.8, .6], [.6, .8]], at temperature 1.
    s, t = torch.tensor([[1.0, 0.6], [0.0, 0.8]]), torch.tensor([[0.8, 0.6], [0.6, 0.8]])

    def divergence(student: Tensor, teacher: Tensor) -> float:
        p, q = teacher.softmax(1), student.softmax(1)
        return float((p * (p / q).log()).sum(1).mean())

    value = similarity_divergence(images, student, images, teacher, temperature=1.0).item()
    assert value == pytest.approx((divergence(s, t) + divergence(s.T, t.T)) / 2, abs=1e-6)


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def test_a_store_keeps_rows_by_digest_and_finds_them_in_another_process(tmp_path: Path) -> None:
    store = ContentStore(tmp_path / "rows", (2, 3), np.float16)
    assert len(store.rows()) == 0
    values = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
    store.add([digest(0), digest(1), digest(1)], values[[0, 1, 1]])
    store.add([digest(1), digest(2)], values[[3, 2]])
    again = ContentStore(tmp_path / "rows", (2, 3), np.float16)
    for reader in (store, again):
        assert len(reader) == 3
        assert digest(2) in reader
        assert digest(3) not in reader
        np.testing.assert_array_equal(reader.rows()[reader.numbers([digest(2), digest(1)])], values[[2, 1]])
    with pytest.raises(KeyError):
        store.numbers([digest(3)])


@pytest.mark.parametrize("damage", ["rows", "keys"])
def test_a_torn_store_loses_only_what_is_torn(tmp_path: Path, damage: str) -> None:
    store = ContentStore(tmp_path / "rows", (3,), np.uint8)
    store.add([digest(n) for n in range(4)], np.repeat(np.arange(4, dtype=np.uint8)[:, None], 3, axis=1))
    file = tmp_path / f"rows.{damage}"
    file.write_bytes(file.read_bytes()[:-1])
    torn = ContentStore(tmp_path / "rows", (3,), np.uint8)
    assert [n for n in range(4) if digest(n) in torn] == [0, 1, 2]
    torn.add([digest(9)], np.full((1, 3), 9, np.uint8))
    healed = ContentStore(tmp_path / "rows", (3,), np.uint8)
    np.testing.assert_array_equal(healed.rows()[:, 0], [0, 1, 2, 9])
    np.testing.assert_array_equal(healed.numbers([digest(9)]), [3])


def write_rows(path: Path, first: int) -> None:
    store = ContentStore(path, (5,), np.int64)
    for number in range(first, first + 40):
        store.add([digest(number)], np.full((1, 5), number))


def test_two_processes_may_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_rows, args=(tmp_path / "rows", first)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    store = ContentStore(tmp_path / "rows", (5,), np.int64)
    assert len(store) == 60
    rows = store.rows()[store.numbers([digest(number) for number in range(60)])]
    np.testing.assert_array_equal(rows, np.repeat(np.arange(60)[:, None], 5, axis=1))


def test_caption_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a dog\n\n  a cat \na dog\n", encoding="utf-8")
    assert read_captions(tmp_path / "a.txt") == ["a dog", "a cat"]
    table = 'split,caption\ntrain,"a man, smiling"\ntrain,\n'
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(table.encode()))
    assert read_captions(tmp_path / "a.csv.gz") == ["a man, smiling"]
    for name, content, sentence in (
        ("empty.txt", b"\n", "has no captions"),
        ("other.csv", b"text\nx\n", "no column 'caption'"),
        ("broken.txt.gz", b"no gzip", "cannot be read"),
        ("bytes.txt", b"\xff\xfe", "cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataSetError, match=sentence):
            read_captions(tmp_path / name)
    with pytest.raises(DataSetError, match="cannot be read"):
        read_captions(tmp_path / "gone.txt")


def test_captions_of_dev_photos_are_not_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A dog runs.\na dog  RUNS\na cat\n", encoding="utf-8")
    assert extra_texts([str(tmp_path / "a.txt")], ["a dog runs !"]) == ["a cat"]
    assert extra_texts([], ["a dog"]) == []
    with pytest.raises(DataSetError, match=r"All 3 captions in .* belong to dev photos too"):
        extra_texts([str(tmp_path / "a.txt")], ["a dog runs", "A cat."])


def test_photos_of_the_same_captions_are_one_group() -> None:
    pairs = Pairs(
        captions=["A dog.", "a dog", "a dog!", "two dogs", "a dog", "two dogs"],
        photos=np.array([0, 1, 2, 2, 3, 3]),
        digests=[bytes([number]) for number in range(4)],
        failures=[],
    )
    # A photo that has one caption more is another: that one tells it apart.
    assert pairs.groups().tolist() == [0, 0, 1, 1]


def test_captions_are_made_of_a_tag(tmp_path: Path) -> None:
    for name in ("cat", "coffee"):
        (tmp_path / f"{name}.jpg").write_bytes((TOY_IMAGES / f"{name}.jpg").read_bytes())
    table = tmp_path / "classes.csv"
    table.write_text("image,class\ncat.jpg,tabby\ncoffee.jpg,espresso\n", encoding="utf-8")
    more = MoreData(str(table), tag="class", templates=("a photo of a {}", "{}"))
    config = TrainingConfig(data="toy-data", model="vse", more=(more,))
    records = list(training_records(config, TOY_IMAGES.parent.parent))
    captions = {record.text: record.photo_id for record in records if isinstance(record, Record)}
    photos = {record.id for record in records if isinstance(record, Record) and record.modality == "image"}
    assert {"a photo of a tabby", "tabby", "a photo of a espresso", "espresso"} <= set(captions)
    assert captions["tabby"] == captions["a photo of a tabby"] in photos


def test_a_batch_has_the_classes_that_are_found_in_its_photos() -> None:
    logits = np.full((3, 50), -4, np.float16)
    logits[0, 7], logits[1, 30], logits[2, 11] = 9, 9, 9
    teacher = ClassTeacher(logits, templates=2, count=12)
    some = teacher.some(np.array([0, 2]), np.random.default_rng(0))
    names = (some.sentences % 50).tolist()
    assert len(set(names)) == 12
    assert {7, 11} <= set(names)
    assert set(some.sentences // 50) == {0, 1}
    assert some.log_probabilities.shape == (2, 12)
    assert some.log_probabilities.exp().sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert names[int(some.log_probabilities[1].argmax())] == 11
    again = teacher.some(np.array([0, 2]), np.random.default_rng(0))
    assert again.sentences.tolist() == some.sentences.tolist()


@pytest.mark.parametrize(
    ("text", "sentence"), [("image,name\na,b\n", "KeyError"), ("image,class\na,\n", "without a name")]
)
def test_classes_without_names_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataSetError, match=sentence):
        class_names(tmp_path / "classes.csv")


def test_means_of_weights_are_those_that_retrieve_best() -> None:
    class Line(nn.Module):
        """A number for each trunk, which its vectors turn by."""

        def __init__(self, image: float, text: float) -> None:
            super().__init__()
            self.image, self.text = (nn.Parameter(torch.tensor(value)) for value in (image, text))

        def part_of(self, name: str) -> str:
            return f"{name}_trunk"

        def turned(self, value: nn.Parameter) -> np.ndarray:
            angles = np.arange(6) + value.item()
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    model: Any = Line(1.0, 2.0)
    learnt = dict(model.named_parameters())
    origin = trunks_of(Line(-1.0, -6.0), learnt)  # type: ignore[arg-type]
    assert {name: value.item() for name, value in origin.items()} == {"image": -1.0, "text": -6.0}
    # Photos and captions lie at the same angles where both are at 0.
    shares = best_means(
        model,
        learnt,
        origin,
        (0.25, 0.5),
        lambda: model.turned(model.image),
        lambda: model.turned(model.text),
        np.arange(6),
    )
    assert shares == (0.5, 0.25)
    assert (model.image.item(), model.text.item()) == (0.0, 0.0)


def test_the_mean_with_another_model_is_the_one_that_measures_best() -> None:
    parameters = {"weight": nn.Parameter(torch.tensor([4.0, 0.0]))}
    target = torch.tensor([3.0, 1.0])

    def measured() -> Metrics:
        hits = -float((parameters["weight"] - target).abs().sum())
        return {way: {"hit@10": hits, "mrr": 0.0} for way in ("text2image", "image2text")}

    share = best_mean(parameters, {"weight": torch.tensor([0.0, 4.0])}, (0.25, 0.5), measured)
    assert share == 0.25
    assert parameters["weight"].tolist() == [3.0, 1.0]
