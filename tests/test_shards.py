"""Tar shards, Parquet and photos below an address make the index that a folder of the same photos makes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import TOY_IMAGES, run_here
from shards import ToySample, toy_samples, write_files, write_parquet, write_tar

from crossmodal import PhotoIndex
from crossmodal.data_sets import collection, open_data_set
from crossmodal.errors import DataSetError, OriginalGone
from crossmodal.records import IMAGE, TEXT, Failure

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

QUESTIONS = ("a dog runs", "stairs", "a cup of coffee")

Photos = list[tuple[str, float]]


def tars(folder: Path, samples: Sequence[ToySample]) -> None:
    """Two shards, and beside them what img2dataset writes about them."""
    write_tar(folder / "00000.tar", samples[:8])
    write_tar(folder / "00001.tar", samples[8:])
    write_parquet(folder / "00000.parquet", samples[:8], jpg=[""] * 8)
    (folder / "00000_stats.json").write_text("{}", encoding="utf-8")


def parquet(folder: Path, samples: Sequence[ToySample]) -> None:
    """Two shards, the second with a column of Hugging Face's kind."""
    write_parquet(folder / "a.parquet", samples[:8])
    held = [{"bytes": sample.content, "path": sample.name} for sample in samples[8:]]
    write_parquet(folder / "b.parquet", samples[8:], jpg=[b""] * 7, image=held)


LAYOUTS: dict[str, Callable[[Path, Sequence[ToySample]], None]] = {
    "tar": tars,
    "parquet": parquet,
    "files": write_files,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Photos]:
    """What searches find in an index of the toy photos by their paths."""
    with PhotoIndex(tmp_path_factory.mktemp("plain")) as index:
        assert index.add(TOY_IMAGES).added == 15
        return found(index)


@pytest.fixture
def bucket() -> Iterator[Callable[[Path], str]]:
    """Takes a folder to an address, and says to which."""
    memory = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        memory.put(f"{folder}/", "/bucket/photos", recursive=True)
        return "memory://bucket/photos"

    yield put
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)


def found(index: PhotoIndex) -> dict[str, Photos]:
    return {
        question: [
            (match.id, round(match.cosine, 5)) for match in index.search(question, 15, group_duplicates=False)
        ]
        for question in QUESTIONS
    }


def nothing_is_read(*arguments: object) -> Any:
    raise AssertionError("it was read again")


@pytest.mark.parametrize(
    ("layout", "remote"), [("tar", False), ("tar", True), ("parquet", False), ("files", True)]
)
def test_an_index_of_shards_finds_what_one_of_a_folder_finds(
    layout: str,
    remote: bool,
    plain: dict[str, Photos],
    bucket: Callable[[Path], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, samples = tmp_path / "data", toy_samples()
    data.mkdir()
    LAYOUTS[layout](data, samples)
    source = bucket(data) if remote else str(data)
    with PhotoIndex(tmp_path / "index") as index:
        summary = index.add(source)
        assert (summary.added, summary.failures) == (30, [])
        assert found(index) == plain
        (cat,) = index.search("the face of a tabby cat", 1)
        sample = next(sample for sample in samples if sample.name == "cat.jpg")
        assert [caption.text for caption in cat.captions] == [sample.caption]
        assert cat.tags["url"] == sample.said["url"]
        assert cat.tags["similarity"] == 0.3
        assert "status" not in cat.tags
        if layout == "parquet":
            with pytest.raises(OriginalGone):
                index.photo(cat.id)
        else:
            assert index.photo(cat.id) == sample.content

        # What is there is known without reading a byte of it.
        monkeypatch.setattr(collection, "read_source", nothing_is_read)
        again = index.add(source)
        assert (again.unchanged, again.failures) == (15, [])
        assert found(index) == plain


def test_photos_that_leave_an_address_leave_the_index(bucket: Callable[[Path], str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(TOY_IMAGES, data)
    source, memory = bucket(data), fsspec.filesystem("memory")
    with PhotoIndex(tmp_path / "index") as index:
        index.add(source)
        memory.rm("/bucket/photos/cat.jpg")
        memory.mv("/bucket/photos/coffee.jpg", "/bucket/photos/below/cup.jpg")
        with memory.open("/bucket/photos/bricks.jpg", "wb") as file:
            file.write(b"")
        summary = index.add(source)
        assert (summary.unchanged, summary.added, summary.deleted) == (12, 0, 1)
        # Its file cannot be read, which doesn't mean that it is gone.
        assert [failure.source for failure in summary.failures] == [f"{source}/bricks.jpg"]
        assert [match.uri for match in index.search("a cup of coffee", 1)] == [f"{source}/below/cup.jpg"]
    done = run_here("roots", "--workspace", tmp_path / "index")
    assert done.stdout.split() == ["14", source]


def test_what_cannot_be_used_is_told_and_the_rest_is_indexed(tmp_path: Path) -> None:
    samples = toy_samples()
    write_tar(tmp_path / "broken.tar", samples[:3])
    whole = (tmp_path / "broken.tar").read_bytes()
    cut = whole.index(samples[2].content) + 100
    (tmp_path / "broken.tar").write_bytes(whole[:cut])
    write_parquet(
        tmp_path / "rows.parquet",
        samples[3:6],
        jpg=[samples[3].content, None, b"no photo at all"],
        status=["success", "failed_to_download", "success"],
        error_message=[None, "404", None],
    )
    (tmp_path / "notes.parquet").write_bytes(b"PAR1")
    with PhotoIndex(tmp_path / "index") as index:
        for _ in range(2):
            # Another time too: none of these shards is whole in the index. A caption needs no photo.
            summary = index.add(tmp_path)
            assert summary.added + summary.unchanged == 3 + 4
            said = {failure.source.rpartition("/")[2]: failure.reason for failure in summary.failures}
            assert "tar any further" in said["broken.tar"]
            assert said[f"rows.parquet, {samples[4].key}"] == "it has no photo (failed_to_download: 404)"
            assert f"{samples[5].key}.jpg" in said
            assert "Parquet" in said["notes.parquet"]
            assert len(said) == 4
        assert len(index) == 3 + 4


def test_a_shard_with_more_in_it_is_read_again(tmp_path: Path) -> None:
    samples = toy_samples()
    write_tar(tmp_path / "one.tar", samples[:3])
    with PhotoIndex(tmp_path / "index") as index:
        assert index.add(tmp_path / "one.tar").added == 6
        write_tar(tmp_path / "one.tar", samples[:5])
        summary = index.add(tmp_path / "one.tar")
        assert (summary.unchanged, summary.added) == (6, 4)
        # A tar that is another one now has no original of what was in it.
        (tmp_path / "one.tar").write_bytes(b"\0" * 10240)
        (match,) = index.search("an astronaut", 1)
        with pytest.raises(OriginalGone):
            index.photo(match.id)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://bucket/nothing", "nothing at"),
        ("memory://", "names nothing yet"),
        ("ftp://me:secret@host/photos", "password"),
        ("nosuch://bucket/photos", "nosuch"),
        ("zip://a.jpg::memory://x.zip", "chain"),
        ("https://host/a.tar?key=1", "?"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_with_words(
    address: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataSetError) as refused:
        open_data_set(address, data_root=tmp_path)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_what_is_no_photo_in_a_shard_is_counted(tmp_path: Path) -> None:
    import io
    import tarfile

    sample = toy_samples()[0]
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, content in (
            ("x//1.jpg", sample.content),
            ("x//1.cls", b"3"),
            ("x/2.flac", b"fLaC"),
            ("x/\udcff.jpg", sample.content),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data_set = open_data_set(str(tmp_path), data_root=tmp_path)
    items = list(data_set)
    assert [item.modality for item in items if not isinstance(item, Failure)] == [IMAGE]
    (photo,) = (item for item in items if not isinstance(item, Failure))
    assert photo.local is not None
    assert photo.local.path == "a.tar.gz/x/1.jpg"
    assert [item.reason for item in items if isinstance(item, Failure)] == [
        "it has no photo, only .flac",
        "the name x/\\xff.jpg is not valid UTF-8",
    ]
    assert data_set.notes[-1] == f"{tmp_path}: passed over in shards what is no photo (1 .cls, 1 .flac)"
    assert TEXT not in {item.modality for item in items if not isinstance(item, Failure)}
