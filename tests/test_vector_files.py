"""Vectors out to files and in from them: the rankings of indexing, and words for what doesn't fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import TOY_DATA, copy_index, run_app
from numpy.typing import NDArray

from crossmodal import PhotoIndex
from crossmodal.errors import CrossmodalError, DataSetError, ModelMismatch
from crossmodal.models.identity import ModelIdentity
from crossmodal.vector_files import open_vector_files, writing
from crossmodal.vector_files.reading import MODEL_KEY

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

DIMENSION = 512
QUESTIONS = ("a dog runs", "stairs", "a cup of coffee")


def found(workspace: Path) -> list[Any]:
    """What searches find in both directions, with cosines as far as encoding repeats them."""
    with PhotoIndex(workspace) as index:
        photos = [index.search(question, 15, group_duplicates=False) for question in QUESTIONS]
        captions = [index.search(question, 15, modality="text") for question in QUESTIONS]
    return [[(m.id, m.text, round(m.cosine, 5)) for m in matches] for matches in photos + captions]


def run_json(*arguments: str | Path) -> Any:
    done = run_app(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_index_made_of_vectors_finds_the_same(toy_workspace: Path, tmp_path: Path) -> None:
    out, made = tmp_path / "vectors", tmp_path / "made"
    said = run_json("embed", TOY_DATA, "--output", out, "-n", "10")
    assert said["photos"]["added"] + said["captions"]["added"] == 10
    said = run_json("embed", TOY_DATA, "--output", out)
    # What an earlier run wrote is there still, and not encoded again.
    assert said["photos"]["unchanged"] + said["captions"]["unchanged"] == 10
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == {
        *(f"img_emb/img_emb_{part}.npy" for part in (0, 1)),
        *(f"metadata/metadata_{part}.parquet" for part in (0, 1)),
        *(f"captions/text_emb/text_emb_{part}.npy" for part in (0, 1)),
        *(f"captions/metadata/metadata_{part}.parquet" for part in (0, 1)),
    }
    assert np.load(out / "img_emb" / "img_emb_1.npy").dtype == np.float32

    # Which model made them stands in the files.
    indexing = ("index", "--embeddings", out, "--workspace", made)
    report = run_json(*indexing)
    assert (report["photos"]["added"], report["photos"]["failed"]) == (15, 0)
    assert found(made) == found(toy_workspace)
    with PhotoIndex(made) as index:
        assert index.add_embeddings(out).unchanged == len(index)
        assert {index.thumbnail(photo.id) for photo in index.page(limit=15)} == {None}
        # The folder itself brings what vectors are without.
        assert index.add(TOY_DATA).failures == []
        assert all(index.thumbnail(photo.id) for photo in index.page(limit=15))
        assert len(index.page(limit=100)) == 15


def test_the_library_writes_and_reads_them(toy_workspace: Path, tmp_path: Path) -> None:
    vectors, made = tmp_path / "vectors", tmp_path / "made"
    with PhotoIndex(made, model="clip-mini") as index:
        assert index.embed(TOY_DATA, vectors, "parquet").added > 15
        assert index.embed(TOY_DATA, vectors, "parquet").added == 0
        assert [path.name for path in vectors.iterdir()] == ["00000.parquet"]
        summary = index.add_embeddings(vectors / "00000.parquet")
        assert (summary.added, summary.failures) == (len(index), [])
    assert found(made) == found(toy_workspace)


def unit_vectors(rows: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def write_npy(path: Path, vectors: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, vectors)


def as_clip_retrieval(folder: Path, vectors: NDArray[np.float32]) -> None:
    """Two parts in float16, with a caption and one number more."""
    for part in (0, 1):
        rows = range(3 * part, 3 * part + 3)
        write_npy(folder / "img_emb" / f"img_emb_{part}.npy", vectors[3 * part :][:3].astype(np.float16))
        write_table(
            folder / "metadata" / f"metadata_{part}.parquet",
            image_path=[f"/data/0000{row}.jpg" for row in rows],
            caption=[f"caption {row}" if row % 2 else None for row in rows],
            url=[f"https://photos.example/{row}.jpg" for row in rows],
            similarity=[row / 10 for row in rows],
        )


def test_the_folders_of_clip_retrieval(tmp_path: Path) -> None:
    vectors = unit_vectors(6)
    as_clip_retrieval(tmp_path / "laion", vectors)
    with PhotoIndex(tmp_path / "index", model="clip-mini") as index:
        assert index.add_embeddings(tmp_path / "laion").added == 6 + 3
        assert index.add_embeddings(tmp_path / "laion").unchanged == 6 + 3
        best = index.search(vectors[4], 2, modality="image")[0]
        assert (best.uri, best.cosine > 0.999) == ("https://photos.example/4.jpg", True)
        record = index.get(best.id)
        assert record is not None
        assert record.tags == {"similarity": 0.4}
        odd = index.search(vectors[3], 1, modality="image")[0].id
        assert [caption.text for caption in index.captions_of(odd)] == ["caption 3"]
        # Another vector of the same photo takes the place of the first.
        vectors[4] = -vectors[4]
        as_clip_retrieval(tmp_path / "laion", vectors)
        summary = index.add_embeddings(tmp_path / "laion")
        assert (summary.replaced, summary.unchanged) == (1, 8)
        assert index.search(vectors[4], 1, modality="image")[0].id == best.id


def test_the_table_of_img2dataset_with_rows_that_cannot_be_used(tmp_path: Path) -> None:
    vectors: list[Any] = list(unit_vectors(6))
    vectors[1] = None
    vectors[2] = np.full(DIMENSION, np.nan, np.float32)
    vectors[3] = vectors[3][:7]
    digests = [hashlib.sha256(bytes([row])).hexdigest() for row in range(6)]
    write_table(
        tmp_path / "00000.parquet",
        url=[f"https://photos.example/{row}.jpg" for row in (0, 1, 2, 3, 4, 4)],
        caption=[f"caption {row}" for row in range(6)],
        key=[f"00000000{row}" for row in range(6)],
        status=["success", "failed_to_download", *["success"] * 4],
        width=[640] * 6,
        sha256=digests,
        embedding=vectors,
    )
    with PhotoIndex(tmp_path / "index", model="clip-mini") as index:
        summary = index.add_embeddings(tmp_path)
        # The last row is of the same photo, with one more caption.
        assert [record.digest for record in sorted(index.page(), key=lambda r: str(r.uri))] == [
            digests[0],
            digests[4],
        ]
        captions = {caption.text for photo in index.page() for caption in index.captions_of(photo.id)}
        assert captions == {"caption 0", "caption 4", "caption 5"}
        assert [photo.tags for photo in index.page()] == [{"width": 640}] * 2
        reasons = {failure.source: failure.reason for failure in summary.failures}
        assert index.add_embeddings(tmp_path).unchanged == summary.added
    assert "its status is failed_to_download" in reasons.pop(f"{tmp_path}/00000.parquet, row 2")
    assert "not a finite number" in reasons["https://photos.example/2.jpg"]
    assert "the shape (7,), but this index needs (512,)" in reasons["https://photos.example/3.jpg"]


def test_photos_and_tags_that_are_there_stay(toy_workspace: Path, tmp_path: Path) -> None:
    def add(index: PhotoIndex, seed: int, **columns: Any) -> tuple[int, list[str]]:
        write_table(tmp_path / "rows.parquet", **columns, embedding=list(unit_vectors(2, seed)))
        summary = index.add_embeddings(tmp_path / "rows.parquet")
        return summary.added + summary.replaced, [str(failure) for failure in summary.failures]

    with PhotoIndex(copy_index(toy_workspace, tmp_path / "index")) as index:
        there = index.page(limit=1)[0]
        thumbnail = index.thumbnail(there.id)
        assert thumbnail is not None
        added, (failure,) = add(index, 1, id=[there.id, "own"], tags=[None, '{"rating": 5}'])
        assert added == 1
        assert f"another photo with the id {there.id}" in failure
        assert (index.get(there.id), index.thumbnail(there.id)) == (there, thumbnail)
        # A row that says nothing of tags takes none away.
        assert add(index, 2, id=["own", "other"]) == (2, [])
        own = index.get("own")
        assert own is not None
        assert own.tags == {"rating": 5}


def one_vector_too_few(folder: Path) -> None:
    as_clip_retrieval(folder, unit_vectors(6))
    write_npy(folder / "img_emb" / "img_emb_1.npy", unit_vectors(2))


def a_part_without_its_rows(folder: Path) -> None:
    as_clip_retrieval(folder, unit_vectors(6))
    (folder / "metadata" / "metadata_1.parquet").unlink()


def half_a_file(folder: Path) -> None:
    as_clip_retrieval(folder, unit_vectors(6))
    file = folder / "img_emb" / "img_emb_1.npy"
    file.write_bytes(file.read_bytes()[:1000])


def parts_of_two_lengths(folder: Path) -> None:
    as_clip_retrieval(folder, unit_vectors(6))
    write_npy(folder / "img_emb" / "img_emb_1.npy", unit_vectors(3)[:, :64])


def pickled_objects(folder: Path) -> None:
    as_clip_retrieval(folder, unit_vectors(6))
    write_npy(folder / "img_emb" / "img_emb_1.npy", np.array([{}, {}, {}], dtype=object))


def no_column_of_vectors(folder: Path) -> None:
    write_table(folder / "00000.parquet", url=["a"], caption=["b"])


def vectors_as_text(folder: Path) -> None:
    write_table(folder / "00000.parquet", url=["a"], embedding=["0.1 0.2"])


def another_dimension(folder: Path) -> None:
    write_table(folder / "00000.parquet", url=["a"], embedding=[[1.0, 0.0]])


def vectors_of_two_models(folder: Path) -> None:
    folder.mkdir()
    for part, weights in enumerate("ab"):
        table = pyarrow.table({"url": [weights], "embedding": list(unit_vectors(1))})
        model = json.dumps(ModelIdentity("one", weights, "", DIMENSION).to_json())
        path = folder / f"{part:05}.parquet"
        pyarrow.parquet.write_table(table.replace_schema_metadata({MODEL_KEY: model}), path)


def nothing(folder: Path) -> None:
    folder.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (one_vector_too_few, r"img_emb_1\.npy has 2 vectors, but .*metadata_1\.parquet has 3 rows"),
        (a_part_without_its_rows, r"img_emb_1\.npy, but no metadata_1\.parquet"),
        (half_a_file, r"img_emb_1\.npy cannot be read as npy"),
        (parts_of_two_lengths, r"of different lengths: 512 in .*, 64 in "),
        (pickled_objects, r"img_emb_1\.npy cannot be read as npy"),
        (no_column_of_vectors, r"no column of vectors: .*embedding.* It has url, caption"),
        (vectors_as_text, r"embedding of .* is of the type string"),
        (another_dimension, r"have 2 dimensions, but clip-mini makes 512"),
        (vectors_of_two_models, r"00001\.parquet were made by one .*, and those before by one"),
        (nothing, r"There are no vectors at "),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "vectors")
    with (
        PhotoIndex(tmp_path / "index", model="clip-mini") as index,
        pytest.raises(CrossmodalError, match=message),
    ):
        index.add_embeddings(tmp_path / "vectors")
    assert not (tmp_path / "index").exists()


def test_which_model_made_them_has_to_be_known(toy_workspace: Path, tmp_path: Path) -> None:
    as_clip_retrieval(tmp_path / "vectors", unit_vectors(6))
    with PhotoIndex(tmp_path / "index") as index, pytest.raises(DataSetError, match="Name it with -m"):
        index.add_embeddings(tmp_path / "vectors")
    # Vectors without a word of it are the model's that built the index, if they are as long.
    workspace = copy_index(toy_workspace, tmp_path / "toy")
    with PhotoIndex(workspace) as index:
        assert index.add_embeddings(tmp_path / "vectors").added == 9
        index.embed(TOY_DATA / "images" / "coffee.jpg", tmp_path / "mini")
    with (
        PhotoIndex(tmp_path / "vse", model="vse") as index,
        pytest.raises(ModelMismatch, match="made by clip-mini"),
    ):
        index.add_embeddings(tmp_path / "mini")
    with (
        PhotoIndex(tmp_path / "vse", model="vse") as index,
        pytest.raises(DataSetError, match="choose another"),
    ):
        index.embed(TOY_DATA / "images" / "coffee.jpg", tmp_path / "mini")


def test_a_run_that_is_killed_leaves_whole_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_PART", 4)
    writes = []

    def failing(path: Path, write: Any) -> None:
        writes.append(path)
        if len(writes) == 4:
            raise OSError(28, "No space left on device")
        written(path, write)

    written = writing._write_file
    monkeypatch.setattr(writing, "_write_file", failing)
    out = tmp_path / "vectors"
    with PhotoIndex(tmp_path / "index", model="clip-mini") as index:
        with pytest.raises(CrossmodalError, match="No space left on device"):
            index.embed(TOY_DATA / "images", out)
        assert index.embed(TOY_DATA / "images", out).unchanged > 0
    assert open_vector_files(out).rows == 15
