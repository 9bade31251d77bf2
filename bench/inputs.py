"""Photos and captions that the benchmarks share."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import islice, permutations
from pathlib import Path

from bench.harness import REPOSITORY, Options

__all__ = ["caption_set", "captions", "large_photos", "photo_files", "photo_set", "small_photos"]

_TOY_DATA = REPOSITORY / "data" / "toy-data"

# 12 megapixels, as phones take them, and the quality that they save with.
_LARGE_SIZE = (4000, 3000)
_LARGE_QUALITY = 90

# Captions are indexed with photos, so a set of captions needs some, but so few that they don't count.
_PHOTOS_OF_CAPTIONS = 4


def photo_files(options: Options) -> list[Path]:
    """Photos of a usual size: 140 from COCO where ``options.data`` has them, else the toy photos."""
    folder = options.data / "coco-photos" / "images" if options.data else None
    return sorted((folder if folder and folder.is_dir() else _TOY_DATA / "images").glob("*.jpg"))


def small_photos(options: Options) -> list[Path]:
    """Thousands of photos from Flickr8k where ``options.data`` has them, else ``photo_files``."""
    folder = options.data / "flickr8k" / "images" if options.data else None
    return sorted(folder.glob("*.jpg")) if folder and folder.is_dir() else photo_files(options)


def large_photos(options: Options, count: int) -> list[bytes]:
    """JPEGs of 12 megapixels, each a mosaic of photos in their own size.

    An enlarged photo would have no fine detail, and so be quicker to decode than any that a camera takes.
    """
    from PIL import Image

    photos = photo_files(options)
    made = []
    for number in range(count):
        mosaic = Image.new("RGB", _LARGE_SIZE)
        x = y = height = 0
        position = number * 7
        while y < _LARGE_SIZE[1]:
            with Image.open(photos[position % len(photos)]) as photo:
                mosaic.paste(photo, (x, y))
                # Rows overlap by what the lowest photo of a row leaves free, so no stripe stays empty.
                height = min(height or photo.height, photo.height)
                x += photo.width
            position += 1
            if x >= _LARGE_SIZE[0]:
                x, y, height = 0, y + height, 0
        out = BytesIO()
        mosaic.save(out, "JPEG", quality=_LARGE_QUALITY)
        made.append(out.getvalue())
    return made


def captions(options: Options, count: int) -> list[str]:
    """``count`` different captions: Flickr30k's where ``options.data`` has them, else joined toy captions."""
    path = options.data / "flickr30k-captions" / "captions.csv.gz" if options.data else None
    found = _flickr30k(path) if path and path.is_file() else _toy_pairs()
    return list(islice(dict.fromkeys(found), count))


def photo_set(folder: Path, photos: Sequence[Path], count: int) -> Path:
    """A folder with ``count`` photos, ``photos`` over and over, as a user's folder holds them."""
    folder.mkdir(parents=True)
    for number in range(count):
        source = photos[number % len(photos)]
        shutil.copyfile(source, folder / f"{number:06}{source.suffix}")
    return folder


def caption_set(folder: Path, photos: Sequence[Path], texts: Sequence[str]) -> Path:
    """A JSON Lines file with all ``texts`` as captions of four photos: next to nothing but captions."""
    images = photo_set(folder / "images", photos, _PHOTOS_OF_CAPTIONS)
    path = folder / "captions.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number, photo in enumerate(sorted(images.iterdir())):
            row = {"image": f"images/{photo.name}", "caption": texts[number::_PHOTOS_OF_CAPTIONS]}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def _flickr30k(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["caption"].strip():
                yield row["caption"]


def _toy_pairs() -> Iterator[str]:
    with (_TOY_DATA / "captions.txt").open(encoding="utf-8", newline="") as file:
        toy = [row["caption"] for row in csv.DictReader(file)]
    yield from toy
    yield from (" ".join(pair) for pair in permutations(toy, 2))
    yield from (" ".join(three) for three in permutations(toy, 3))
