"""An index as Parquet: other tools read it, and loaded again it finds the same with the same cosines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import REPOSITORY, run_app
from store_samples import VSE, caption, photo, vector_of, vectors_of

from crossmodal.errors import DataError, StoreDamaged, StoreError, StoreFormat
from crossmodal.index.embedded import parquet
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.protocols import SeenText
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, TEXT, Record


def search(workspace: Path, *question: str) -> list[dict]:
    found = run_app("search", "--workspace", workspace, *question, "-k", "10", "--json")
    assert found.returncode == 0, found.stderr
    matches: list[dict] = json.loads(found.stdout)["results"][0]["matches"]
    return matches


def test_loaded_into_an_empty_workspace_it_answers_as_before(toy_workspace: Path, tmp_path: Path) -> None:
    file, copy = tmp_path / "toy.parquet", tmp_path / "copy"
    dumped = run_app("dump", file, "--workspace", toy_workspace)
    assert dumped.returncode == 0, dumped.stderr
    loaded = run_app("load", file, "--workspace", copy)
    assert loaded.returncode == 0, loaded.stderr
    for question in (("a dog runs",), ("cat", "--modality", "text", "--hybrid")):
        assert search(copy, *question) == search(toy_workspace, *question)
    with EmbeddedStore.open_reader(toy_workspace) as one, EmbeddedStore.open_reader(copy) as other:
        assert other.verify() == []
        assert other.identity == one.identity
        assert other.id != one.id
        for (record, vector, _), (same, like, _) in zip(one.everything(), other.everything(), strict=True):
            assert record == same
            np.testing.assert_array_equal(vector, like)
    for command in (("dump", file, "--workspace", copy), ("load", file, "--workspace", copy)):
        refused = run_app(*command)
        assert refused.returncode == 1
        assert "exists" in refused.stderr or "There is an index" in refused.stderr


def test_the_file_is_what_the_documentation_says(tmp_path: Path) -> None:
    odd = Record(
        id="caption \udcff", modality=TEXT, text="a dog \ud800!", photo_id="p0", tags={"né": [1, None]}
    ).hashed()
    photos = [photo("p0"), photo("p1")]
    with EmbeddedStore.open_writer(tmp_path / "workspace", identity=VSE) as store:
        store.put(photos, vectors_of(photos))
        store.put([odd], vector_of("odd")[None])
        store.put([photo("bare")])
        assert not store.has_texts()
        store.put_texts(
            [
                SeenText(each.id, str(each.digest), text)
                for each, text in zip(photos, ("oat milk 1.99", ""), strict=True)
            ]
        )
    file = tmp_path / "dump.parquet"
    moved = parquet.dump(tmp_path / "workspace", file)
    assert (moved.photos, moved.captions) == (3, 1)
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == list(parquet.COLUMNS)
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in parquet.COLUMNS:
        assert f"| `{name}` |" in page
    assert table.schema.metadata[b"crossmodal.format"] == b"1"
    assert ModelIdentity.from_json(json.loads(table.schema.metadata[b"crossmodal.model"])) == VSE
    rows = table.to_pylist()
    assert rows[0]["original"] == photos[0].content
    assert rows[0]["vector"] == vector_of("p0").tolist()
    assert json.loads(rows[0]["tags"]) == photos[0].tags
    assert rows[2]["id"] == "caption \N{REPLACEMENT CHARACTER}"
    assert json.loads(rows[2]["not_utf8"]) == {"id": odd.id, "text": odd.text}
    assert rows[3]["vector"] is None
    parquet.load(file, tmp_path / "copy")
    with EmbeddedStore.open_reader(tmp_path / "copy") as copy:
        assert [record for record, *_ in copy.everything()] == [*photos, odd, photo("bare")]
        assert [text for *_, text in copy.everything()] == ["oat milk 1.99", "", None, None]
        assert [hit.photo for hit in copy.matching_texts("oat milk", 5)] == ["p0"]
        assert copy.has_texts()
        assert copy.verify() == []


def test_another_tool_may_write_one_with_few_columns(tmp_path: Path) -> None:
    table = pyarrow.table(
        {"id": ["a", "b"], "modality": ["image", "text"], "text": [None, "a dog"], "vector": [[1.0, 0.0]] * 2}
    ).replace_schema_metadata(
        {"crossmodal.format": "1", "crossmodal.model": json.dumps(replace(VSE, dimension=2).to_json())}
    )
    pyarrow.parquet.write_table(table, tmp_path / "own.parquet")
    parquet.load(tmp_path / "own.parquet", tmp_path / "workspace")
    with EmbeddedStore.open_reader(tmp_path / "workspace") as store:
        assert store.verify() == []
        assert (list(store.ids(IMAGE)), list(store.ids(TEXT))) == (["a"], ["b"])
        assert store.vectors(["a"], IMAGE)["a"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("metadata", "columns", "error", "words"),
    [
        ({}, {}, StoreFormat, "no number of a format"),
        ({"crossmodal.format": "2"}, {}, StoreFormat, "format '2'.*reads format 1"),
        ({"crossmodal.format": "1"}, {"id": None}, StoreFormat, "no column 'id'"),
        ({"crossmodal.format": "1", "crossmodal.model": "[]"}, {}, StoreFormat, "names its model"),
        ({"crossmodal.format": "1"}, {"modality": ["sound"]}, DataError, "Row 1 .*'sound'"),
        ({"crossmodal.format": "1"}, {"tags": ["[1]"]}, DataError, "Row 1 .*no JSON object"),
    ],
)
def test_what_cannot_be_loaded_is_told_and_leaves_nothing(
    tmp_path: Path, metadata: dict, columns: dict, error: type[Exception], words: str
) -> None:
    values = {"id": ["a"], "modality": ["text"], "text": ["a dog"]} | columns
    table = pyarrow.table({name: value for name, value in values.items() if value is not None})
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "own.parquet")
    with pytest.raises(error, match=words):
        parquet.load(tmp_path / "own.parquet", tmp_path / "workspace")
    assert sorted(path.name for path in (tmp_path / "workspace").iterdir()) in (["writer.lock"], [])


def test_no_parquet_and_no_damaged_index(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(StoreFormat, match="cannot be read as Parquet"):
        parquet.load(tmp_path / "text", tmp_path / "workspace")
    with pytest.raises(StoreError, match="no file"):
        parquet.load(tmp_path / "nothing", tmp_path / "workspace")
    with EmbeddedStore.open_writer(tmp_path / "index") as store:
        store.put([photo("a"), caption("a-0", "a dog")])
        with store._connections.write() as connection:
            connection.execute("UPDATE thumbnails SET content = x'00'")
    with pytest.raises(StoreDamaged, match="thumbnail of 'a'"):
        parquet.dump(tmp_path / "index", tmp_path / "dump")
    assert not (tmp_path / "dump").exists()
