"""The first values of each shipped model's vectors, so that no change of code moves them unnoticed.

They were made with the weights as they are shipped, in the plain form, on one thread. Other machines round
otherwise, hence the tolerance; what this is to catch (other preprocessing, another activation or token) moves
values by more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from photos import encoded, toy_photo

from crossmodal.images import decode_image
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.models.native.checkpoint import SHIPPED

PHOTO = "cat.jpg"
SENTENCE = "A dog runs through the snow."

# Model -> the first values of the photo's vector, and of the sentence's.
FIRST_VALUES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip-mini": (
        (-0.2956, 0.1995, 0.1337, -0.0331, -0.0483, -0.0512, -0.0431, 0.0868),
        (0.0435, 0.3554, -0.1166, 0.0347, 0.1546, 0.108, 0.1648, 0.1307),
    ),
    "vse": (
        (-0.1552, 0.1154, 0.0786, -0.0183, -0.0045, -0.0285, -0.0089, 0.0172),
        (0.0339, 0.3611, -0.1186, 0.0437, 0.1483, 0.1255, 0.1688, 0.1423),
    ),
}


def test_every_shipped_model_is_held_to_its_values() -> None:
    assert set(FIRST_VALUES) == {name for name, folder in SHIPPED.items() if folder.is_dir()}


@pytest.mark.parametrize("name", FIRST_VALUES)
def test_vectors_are_what_they_were(name: str, tmp_path: Path) -> None:
    photo_values, sentence_values = FIRST_VALUES[name]
    images = load_image_encoder(name, threads=1, cache=tmp_path, runtime="torch")
    pixels = decode_image(encoded(toy_photo(PHOTO), "PNG"))
    photo = images.encode(images.preprocessing.crop(pixels)[None])[0]
    np.testing.assert_allclose(photo[: len(photo_values)], photo_values, atol=0.002)
    texts = load_text_encoder(name, threads=1, cache=tmp_path, runtime="torch")
    sentence = texts.encode([SENTENCE])[0]
    np.testing.assert_allclose(sentence[: len(sentence_values)], sentence_values, atol=0.002)
    # Values near 0 would hold nothing; those here are as large as a unit vector's are.
    assert min(np.abs(photo_values).max(), np.abs(sentence_values).max()) > 0.02
