"""Photos that workers read and encode make the index that `index` makes; Ray may lose a node meanwhile."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_environments import ClientEnvironment, client_environment
from conftest import REPOSITORY, TOY_DATA, TOY_IMAGES, run_app
from shards import ToySample, toy_samples, write_parquet, write_tar

from crossmodal import PhotoIndex
from crossmodal.bulk.ordering import Item, Said, merged, waves
from crossmodal.bulk.preparing import Preparer
from crossmodal.data_sets import open_data_set
from crossmodal.data_sets.mentions import Mention
from crossmodal.data_sets.prepared import LeftOut
from crossmodal.errors import ServiceError
from crossmodal.models import DEFAULT_MODEL
from crossmodal.records import IMAGE, MODALITIES, Failure, digest_of, photo_id
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")


class Elsewhere:
    """A reader whose worker is in this process; what goes to it and comes back passes as bytes."""

    def __init__(self, **options: Any) -> None:
        self.works = 0
        self._options = {"is_known": lambda digest: False, **options}
        self.preparer = Preparer(Settings(model=DEFAULT_MODEL, request_size=4), **self._options)

    def __call__(self, items: Iterator[Item]) -> Iterator[Mention | Failure | LeftOut]:
        for wave in waves(items):
            yield from merged(wave, self._answers([part.works for part in wave]))

    def _answers(self, parts: list[list[Any]]) -> Iterator[Said]:
        for number, works in enumerate(parts):
            self.works += len(works)
            for answer in self.preparer.prepared(pickle.loads(pickle.dumps(works))):
                yield Said(number, pickle.loads(pickle.dumps(answer)))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    reader = Elsewhere()
    with reader.preparer:
        yield reader


def contents(workspace: Path) -> dict[str, Any]:
    """All documents of an index with their files, and their vectors as far as encoding repeats them."""
    held: dict[str, Any] = {}
    with Workspace(workspace) as opened:
        for modality in MODALITIES:
            ids = list(opened.ids(modality))
            vectors = opened.vectors(ids, modality)
            for id, record in opened.records(ids, modality).items():
                files = opened.require().library.files_of(id) if modality == IMAGE else []
                held[id] = (
                    record,
                    files,
                    np.round(vectors[id], 3).tolist(),
                    opened.thumbnail(id) is not None,
                )
    return held


def data_of(kind: str, folder: Path) -> str:
    """The toy photos as one of the kinds of data sets."""
    if kind == "table":
        return str(TOY_DATA)
    samples = toy_samples()
    write_tar(folder / "a.tar", samples[:8])
    write_parquet(folder / "b.parquet", samples[8:])
    (folder / "broken.tar").write_bytes(b"no tar")
    return str(folder)


@pytest.mark.parametrize("kind", ["table", "shards"])
def test_what_workers_made_is_the_index_that_index_makes(
    kind: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    source = data_of(kind, folder)
    with PhotoIndex(tmp_path / "here") as index:
        expected = index.add(source)
    data_set = open_data_set(source, data_root=tmp_path)
    data_set.reader = elsewhere
    with PhotoIndex(tmp_path / "made") as index:
        summary = index.add(data_set)
        assert summary == expected
        assert (summary.added > 14, len(summary.failures)) == (True, int(kind == "shards"))
        assert contents(tmp_path / "made") == contents(tmp_path / "here")

        # Nothing that is there goes to a worker; a broken shard is looked at again.
        before = elsewhere.works
        again = index.add(data_set)
        assert (again.added, again.failures) == (0, summary.failures)
        assert elsewhere.works - before == len(summary.failures)


def test_a_photo_that_fails_or_is_known_elsewhere_costs_nothing_else(tmp_path: Path) -> None:
    samples = toy_samples()
    broken = ToySample("broken", "broken.jpg", b"\xff\xd8\xff\xe0 nothing more", "nothing")
    write_tar(tmp_path / "a.tar", [samples[0], broken, samples[1]])
    data_set = open_data_set(str(tmp_path / "a.tar"), data_root=tmp_path)
    # A photo that a worker takes for known comes without a vector, and is then encoded here.
    reader = Elsewhere(is_known=lambda digest: True, originals=True)
    data_set.reader = reader
    with reader.preparer, PhotoIndex(tmp_path / "index", keep="original") as index:
        summary = index.add(data_set)
        (failure,) = summary.failures
        assert failure.source.endswith("a.tar/broken.jpg")
        assert summary.added == 2 + 3
        (tmp_path / "a.tar").unlink()
        assert index.photo(photo_id(digest_of(samples[0].content))) == samples[0].content

        # In another place they are copies of those that are there.
        copies = open_data_set(str(TOY_IMAGES), data_root=tmp_path)
        copies.reader = reader
        assert index.add(copies).copied == 2


def test_an_answer_that_is_missing_is_an_error(elsewhere: Elsewhere, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", toy_samples()[:2])
    data_set = open_data_set(str(tmp_path), data_root=tmp_path)
    data_set.reader = lambda items: merged(next(waves(items)), iter(()))
    with PhotoIndex(tmp_path / "index") as index, pytest.raises(ServiceError, match="before all photos"):
        index.add(data_set)


# Three nodes on this machine; the last one is lost once the first photos are written.
CLUSTER = """
import json, sys, time
from ray.cluster_utils import Cluster
import ray
from crossmodal.bulk import on_ray
from crossmodal.cli import main

cluster = Cluster()
node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
nodes = [cluster.add_node(**node) for _ in range(3)]
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
told = {"nodes": [len([node for node in ray.nodes() if node["Alive"]])], "asked": 0}
read = on_ray.RayReader.__call__
answers = on_ray.RayReader._answers

def losing(self, items):
    for number, item in enumerate(read(self, items)):
        if number == 10 and len(nodes) == 3:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        yield item

def counted(self, parts):
    told["asked"] += sum(map(bool, parts))
    return answers(self, parts)

on_ray.RayReader.__call__, on_ray.RayReader._answers = losing, counted
command = ["index", *sys.argv[2:], "--on", "ray", "--json"]
told["codes"] = [main(command), main(command)]
told["nodes"].append(len([node for node in ray.nodes() if node["Alive"]]))
ray.shutdown()
cluster.shutdown()
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""


@pytest.fixture(scope="module")
def ray() -> ClientEnvironment:
    """An environment with Ray and all that is here; Ray needs another pydantic than jina."""
    lines = (REPOSITORY / "requirements-ray.txt").read_text(encoding="utf-8").splitlines()
    (pinned,) = [line for line in lines if not line.startswith("#")]
    made = client_environment(
        pinned,
        "pydantic==2.14.4",
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        options=["--only-binary", ":all:"],
    )
    (site_packages,) = (made.folder / "lib").glob("python*/site-packages")
    (here,) = {path for path in sys.path if path.endswith("site-packages") and Path(path, "numpy").exists()}
    (site_packages / "here.pth").write_text(here + "\n", encoding="utf-8")
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_photos_come_though_ray_loses_a_node(ray: ClientEnvironment, tmp_path: Path) -> None:
    data, told = tmp_path / "data", tmp_path / "told.json"
    data.mkdir()
    for shard in range(8):
        # What stands behind a JPEG's end makes it another photo, and nothing else of it.
        samples = [replace(each, content=each.content + bytes([shard])) for each in toy_samples()]
        write = write_parquet if shard % 2 else write_tar
        write(data / f"{shard:05d}.{'parquet' if shard % 2 else 'tar'}", samples)
    report = run_app("index", data, "--workspace", tmp_path / "here", "--json")
    assert report.returncode == 0, report.stderr
    done = ray.run(
        CLUSTER,
        str(told),
        str(data),
        "--workspace",
        str(tmp_path / "made"),
        timeout=800,
        PYTHONPATH=str(REPOSITORY),
    )
    said = json.loads(told.read_text())
    assert (said["nodes"], said["codes"]) == ([3, 2], [0, 0]), done.stderr[-3000:]
    first, second = (json.loads(line) for line in _objects(done.stdout))
    assert first["photos"]["added"] == json.loads(report.stdout)["photos"]["added"] == 8 * 15
    # Again, and nothing was sent to a worker.
    assert (second["photos"]["unchanged"], said["asked"]) == (8 * 15, 8)
    assert contents(tmp_path / "made") == contents(tmp_path / "here")


def _objects(text: str) -> list[str]:
    """The JSON objects that stand one behind the other."""
    decoder, found, place = json.JSONDecoder(), list[str](), 0
    while (place := text.find("{", place)) >= 0:
        _, end = decoder.raw_decode(text, place)
        found.append(text[place:end])
        place = end
    return found
