"""Real photos for the tests, and the kinds of files that people make of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
TOY_IMAGES = REPOSITORY / "data" / "toy-data" / "images"
SHARED_DATA = REPOSITORY / ".." / "shared" / "data"


def toy_photo(name: str = "cat.jpg") -> Image.Image:
    """One of the photos that this repository carries, as RGB."""
    return Image.open(TOY_IMAGES / name).convert("RGB")


def shared_photos(folder: str, count: int) -> list[Path]:
    """The first ``count`` photos of a folder of the development data; skips the test where it is absent."""
    images = SHARED_DATA / folder / "images"
    if not images.is_dir():
        pytest.skip(f"the development data {folder} is not there")
    return sorted(images.iterdir())[:count]


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of a file of ``image_format``."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()
