"""Groups of photos that are alike are named by what they show."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from asgi_client import AsgiClient, serving_in
from numpy.typing import NDArray
from photos import SHARED_DATA, shared_photos

from crossmodal import PhotoIndex
from crossmodal.engine.engine import Engine
from crossmodal.query.groups import grouped, names_of
from crossmodal.query.subjects import SUBJECTS
from crossmodal.settings import Settings

# Words of captions of photos that form a group, and names that fit it.
KINDS = {
    "giraffe": {"giraffes", "zebras", "wild animals", "farm animals", "zoo"},
    "pizza": {"pizza", "food", "meals"},
    "toilet": {"bathroom"},
    "motorcycle": {"motorcycles"},
}
OF_EACH = 15


def apart(count: int = 60) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Places around four points, and around which each is."""
    random = np.random.default_rng(0)
    of = random.integers(4, size=count)
    centres = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    return (centres[of] + 0.02 * random.normal(size=(count, 2))).astype(np.float32), of


def test_what_lies_together_is_a_group() -> None:
    places, of = apart()
    group = grouped(places, 4)
    assert len({*zip(group.tolist(), of.tolist(), strict=True)}) == len({*group.tolist()}) == 4
    np.testing.assert_array_equal(grouped(places, 4), group)


def test_each_group_has_the_word_that_tells_it_from_the_others_or_none() -> None:
    _, of = apart()
    random = np.random.default_rng(1)
    basis = np.eye(8, dtype=np.float32)
    # All have something in common, which names none of them.
    photos = (3 * basis[7] + basis[of] + 0.05 * random.normal(size=(len(of), 8))).astype(np.float32)
    words = np.stack(
        [3 * basis[6] + basis[2], 3 * basis[6] + basis[0], 3 * basis[6] + basis[1], 4 * basis[6]]
    )
    named = names_of(photos, of, 4, words.astype(np.float32), 0.45)
    assert {group: word for group, word in named.items() if group != 3} == {2: 0, 0: 1, 1: 2}
    assert names_of(photos, of, 4, words[:0], 0.45) == {}


def test_the_subjects_are_different_words() -> None:
    assert len({*SUBJECTS}) == len(SUBJECTS) > 150
    assert all(name == name.strip() and name for name in SUBJECTS)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of real photos of four kinds."""
    paths = {path.name: path for path in shared_photos("extra/coco-2k", 10_000)}
    with (SHARED_DATA / "extra/coco-2k/captions.txt").open(encoding="utf-8") as file:
        captions = [(row["image"], row["caption"].lower()) for row in csv.DictReader(file)]
    folder = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        names = list(dict.fromkeys(name for name, caption in captions if kind in caption and name in paths))
        (folder / kind).mkdir()
        for name in names[:OF_EACH]:
            shutil.copy(paths[name], folder / kind)
    with PhotoIndex(folder / "index") as made:
        assert made.add(folder).added > 0.8 * OF_EACH * len(KINDS)
    return folder / "index"


def test_real_photos_are_named_by_what_they_show(index: Path) -> None:
    with Engine(Settings(workspace=index)) as engine:
        assert engine.group_names() == []
        engine.layout(wait=True)
        names = engine.group_names()
        records = engine.workspace.records(engine.layout().ids, "image")
        folders = {id: str(record.all_tags["folder"]) for id, record in records.items()}
        assert [name.level for name in names] == sorted(name.level for name in names)
        assert {0} <= {name.level for name in names}
        fitting = 0
        for name in names:
            kinds = [folders[id] for id in name.ids]
            most = max(KINDS, key=lambda kind: sum(kind in folder for folder in kinds))
            fitting += name.text in KINDS[most]
        assert fitting >= len(names) / 2
        # Nothing is computed again while the map is the same.
        assert engine.group_names() is names


def test_the_names_are_answered_and_none_before_there_is_a_map(index: Path) -> None:
    with serving_in(index) as serving:
        names = serving.engine.group_names()
        answer = AsgiClient(serving).get("/v1/layout/names")
        assert (answer.status_code, len(answer.json()["names"])) == (200, len(names))
        assert AsgiClient(serving).get("/v1/layout/names?by=place").status_code == 422
