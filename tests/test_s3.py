"""Photos and shards in S3, as s3fs reads them from moto's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TOY_IMAGES
from s3_server import s3_server
from shards import toy_samples, write_tar

from crossmodal import PhotoIndex
from crossmodal.addresses import read_address
from crossmodal.errors import DataSetError, OriginalGone
from crossmodal.records import digest_of, photo_id

s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")


@pytest.fixture(scope="module", autouse=True)
def s3() -> Iterator[None]:
    with s3_server():
        yield


def test_a_bucket_is_indexed_and_shown_as_a_folder_is(tmp_path: Path) -> None:
    fs = s3fs.S3FileSystem()
    samples = toy_samples()
    fs.put(f"{TOY_IMAGES}/", "bucket/photos/", recursive=True)
    write_tar(tmp_path / "a.tar", samples[:2])
    fs.put(str(tmp_path / "a.tar"), "bucket/photos/shards/a.tar")
    with PhotoIndex(tmp_path / "index") as index:
        summary = index.add("s3://bucket/photos")
        # Fifteen photos, two of which lie in the tar as well, with a caption there.
        assert (summary.added, summary.failures) == (15 + 2, [])
        again = index.add("s3://bucket/photos/")
        assert (again.unchanged, again.added, again.failures) == (17, 0, [])

        for sample in samples[:2]:
            assert index.photo(photo_id(digest_of(sample.content))) == sample.content
        fs.rm(f"bucket/photos/{samples[0].name}")
        # What lies in a tar is read out of it.
        assert index.photo(photo_id(digest_of(samples[0].content))) == samples[0].content
        assert index.add("s3://bucket/photos").deleted == 0
        fs.rm(f"bucket/photos/{samples[5].name}")
        with pytest.raises(OriginalGone, match="cannot be read from here now"):
            index.photo(photo_id(digest_of(samples[5].content)))
        assert index.add("s3://bucket/photos").deleted == 1


def test_a_folder_without_a_name_is_told(tmp_path: Path) -> None:
    fs = s3fs.S3FileSystem()
    photo, other = (sample.content for sample in toy_samples()[:2])
    # The last one is made by consoles, so that an empty folder is seen.
    for key, content in {"a.jpg": photo, "/b.jpg": other, "sub//c.jpg": other, "sub/": b""}.items():
        fs.call_s3("put_object", Bucket="bucket", Key=f"named/{key}", Body=content)
    with PhotoIndex(tmp_path / "index") as index:
        summary = index.add("s3://bucket/named")
        assert summary.added == 1
        assert [failure.source for failure in summary.failures] == [
            "s3://bucket/named//",
            "s3://bucket/named/sub//",
        ]
        assert all("folder without a name" in failure.reason for failure in summary.failures)
        below = index.add("s3://bucket/named/sub//")
        assert (below.added, [failure.source for failure in below.failures]) == (
            0,
            ["s3://bucket/named/sub//"],
        )
        # One that is named itself needs no place below another.
        assert index.add("s3://bucket/named/sub//c.jpg").added == 1
        assert index.photo(photo_id(digest_of(other))) == other


def test_a_bucket_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        with pytest.raises(DataSetError, match="There is no data set s3://nothing/photos"):
            index.add("s3://nothing/photos")
        with pytest.raises(DataSetError, match="names nothing yet"):
            index.add("s3://")
    assert read_address("s3://bucket/photos/cat.jpg", 0, 2) == b"\xff\xd8"
