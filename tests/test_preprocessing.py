"""Preprocessing against open_clip's own transform, on real photos.

The reference is open_clip's transform applied to the upright 8-bit RGB photo, for open_clip itself ignores
EXIF orientation and clips 16-bit photos to white.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photos import encoded, shared_photos, toy_photo
from PIL import Image

from crossmodal.errors import ModelError
from crossmodal.images import decode_image, decode_reduced
from crossmodal.models import ImagePreprocessing, load_preprocessing
from crossmodal.models.libraries import import_open_clip

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
CROP = ImagePreprocessing(224, "crop", OPENAI_MEAN, OPENAI_STD)
SQUASH = ImagePreprocessing(224, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Transform = Callable[[Image.Image], Any]


def reference(preprocessing: ImagePreprocessing) -> Transform:
    """open_clip's transform with the same settings."""
    import_open_clip()
    from open_clip.transform import image_transform

    transform: Transform = image_transform(
        preprocessing.size,
        is_train=False,
        mean=preprocessing.mean,
        std=preprocessing.std,
        resize_mode="shortest" if preprocessing.mode == "crop" else "squash",
        interpolation=preprocessing.interpolation,
    )
    return transform


@pytest.fixture(scope="module")
def embed() -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
    """Preprocessed photos (N, 3, 224, 224) to unit vectors of the shipped CNN, trained on ImageNet."""
    import torch

    from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
    from crossmodal.models.native.towers import load_image_tower

    cnn = load_image_tower(NativeCheckpoint.open(SHIPPED["vse"], "vse")).cnn.eval()

    def run(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        with torch.inference_mode():
            vectors: npt.NDArray[np.float64] = cnn(torch.from_numpy(pixels)).double().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return run


def ours(blob: bytes, preprocessing: ImagePreprocessing) -> npt.NDArray[np.float32]:
    return preprocessing.scale(preprocessing.model_input(blob)[None])


@pytest.mark.parametrize("preprocessing", [CROP, SQUASH], ids=["crop", "squash"])
@pytest.mark.parametrize("folder", ["coco-photos", "flickr8k"])
def test_embeddings_of_real_photos_equal_the_reference(
    embed: Any, preprocessing: ImagePreprocessing, folder: str
) -> None:
    transform = reference(preprocessing)
    # What has a profile is seen otherwise, in sRGB.
    paths = [path for path in shared_photos(folder, 20) if b"ICC_PROFILE" not in path.read_bytes()][:12]
    found = embed(np.concatenate([ours(path.read_bytes(), preprocessing) for path in paths]))
    wanted = embed(np.stack([transform(Image.open(path).convert("RGB")).numpy() for path in paths]))
    assert np.sum(found * wanted, axis=1).min() >= 0.9999


@cache
def large_jpegs(size: tuple[int, int]) -> list[bytes]:
    return [
        encoded(Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS), "JPEG", quality=92)
        for path in shared_photos("coco-photos", 2)
    ]


@pytest.mark.parametrize("preprocessing", [CROP, SQUASH], ids=["crop", "squash"])
@pytest.mark.parametrize("size", [(4000, 3000), (2697, 2023), (1011, 1798)], ids=str)
def test_large_jpegs_are_embedded_as_the_reference_does_it(
    embed: Any, preprocessing: ImagePreprocessing, size: tuple[int, int]
) -> None:
    # The sides of the second and third divide by nothing, and are just above six and four times 224.
    blobs = large_jpegs(size)
    transform = reference(preprocessing)
    found = embed(np.concatenate([ours(blob, preprocessing) for blob in blobs]))
    wanted = embed(
        np.stack([transform(Image.open(photo_file(blob)).convert("RGB")).numpy() for blob in blobs])
    )
    cosines = np.sum(found * wanted, axis=1)
    # This network tells apart what differs by single steps of grey: .9997 where every fifth value does.
    assert cosines.min() >= 0.9996
    assert np.mean(cosines) >= 0.9997


@pytest.mark.parametrize("preprocessing", [CROP, SQUASH], ids=["crop", "squash"])
def test_reduced_decoding_changes_steps_of_grey_only(preprocessing: ImagePreprocessing) -> None:
    for path in shared_photos("coco-photos", 4):
        large = Image.open(path).convert("RGB").resize((1801, 1350), Image.Resampling.LANCZOS)
        blob = encoded(large, "JPEG", quality=92)
        whole = preprocessing.crop(decode_image(blob)).astype(int)
        reduced = preprocessing.model_input(blob).astype(int)
        assert decode_reduced(blob, short_side=preprocessing.decoded_side).pixels.shape == (675, 901, 3)
        assert np.abs(reduced - whole).mean() < 0.35


def photo_file(blob: bytes) -> Any:
    from io import BytesIO

    return BytesIO(blob)


def variants(upright: Image.Image) -> dict[str, tuple[bytes, Image.Image]]:
    """Files of unusual kinds, and for each the upright 8-bit RGB photo that it shows."""
    rotated_exif = Image.Exif()
    rotated_exif[0x0112] = 6  # the camera was held so that the photo has to be turned 90 degrees clockwise
    see_through = upright.copy()
    see_through.putalpha(200)
    on_white = Image.new("RGB", upright.size, "white")
    on_white.paste(upright, mask=see_through)
    grey = upright.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    palette = upright.quantize(256)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    cmyk = encoded(upright.convert("CMYK"), "JPEG", quality=95)
    return {
        "rotated by EXIF": (encoded(turned, "PNG", exif=rotated_exif), upright),
        "CMYK": (cmyk, Image.open(photo_file(cmyk)).convert("RGB")),
        "palette": (encoded(palette, "PNG"), palette.convert("RGB")),
        "alpha": (encoded(see_through, "PNG"), on_white),
        "greyscale": (encoded(grey, "PNG"), grey.convert("RGB")),
        "greyscale with alpha": (encoded(grey.convert("LA"), "PNG"), grey.convert("RGB")),
        "16 bits": (encoded(deep, "PNG"), grey.convert("RGB")),
        "16 bits, TIFF": (encoded(deep, "TIFF"), grey.convert("RGB")),
        "WebP": (encoded(upright, "WEBP", lossless=True), upright),
    }


@pytest.mark.parametrize(("name", "preprocessing"), [("cat.jpg", CROP), ("astronaut.jpg", SQUASH)])
def test_embeddings_of_unusual_kinds_equal_the_reference(
    embed: Any, name: str, preprocessing: ImagePreprocessing
) -> None:
    transform = reference(preprocessing)
    for kind, (blob, shown) in variants(toy_photo(name)).items():
        found = embed(ours(blob, preprocessing))
        wanted = embed(transform(shown).numpy()[None])
        assert float(np.sum(found * wanted)) >= 0.9999, kind


@given(
    st.integers(1, 700), st.integers(1, 700), st.sampled_from(["crop", "squash"]), st.sampled_from([32, 224])
)
def test_any_shape_is_cropped_as_the_reference_does_it(width: int, height: int, mode: Any, size: int) -> None:
    preprocessing = ImagePreprocessing(size, mode, OPENAI_MEAN, OPENAI_STD)
    image = toy_photo().resize((width, height))
    found = preprocessing.scale(preprocessing.crop(np.asarray(image))[None])[0]
    wanted = reference(preprocessing)(image).numpy()
    steps = np.abs(found - wanted) * np.array(OPENAI_STD)[:, None, None] * 255
    if mode == "squash":
        assert steps.max() <= 0.001
    elif max(width, height) > 4 * min(width, height) or height > 1.5 * width:
        # Pillow scales columns before rows here, which rounds otherwise.
        assert steps.mean() <= 0.5
    else:
        # Where only the middle is scaled, the last bits of positions differ: in half a per cent of the values
        # at most, where a shift by one pixel makes nearly all of them others.
        assert steps.max() <= 2.01
        assert np.mean(steps > 0.5) < 0.02


def test_a_panorama_does_not_grow_on_the_way() -> None:
    # By the reference's own way this would be a photo of 4,480,000 x 224 pixels, 3 GB.
    thin = np.full((1, 20_000, 3), 77, np.uint8)
    assert CROP.crop(thin).shape == (224, 224, 3)
    assert set(np.unique(CROP.crop(thin))) == {77}


def test_scale_is_the_mean_and_deviation_of_channels() -> None:
    preprocessing = ImagePreprocessing(1, "crop", (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    found = preprocessing.scale(np.array([[[[255, 0, 51]]]], np.uint8))
    np.testing.assert_allclose(found.ravel(), [1.0, -1.0, 0.1], rtol=1e-6)
    assert found.dtype == np.float32
    assert preprocessing.scale(np.empty((0, 1, 1, 3), np.uint8)).shape == (0, 3, 1, 1)


def test_the_default_models_preprocessing() -> None:
    assert load_preprocessing("vse") == SQUASH
    assert SQUASH.describe() == "squash 224 bicubic mean=0.5,0.5,0.5 std=0.5,0.5,0.5"
    assert load_preprocessing("clip") == CROP


def test_json_keeps_everything_and_refuses_what_is_unknown() -> None:
    assert ImagePreprocessing.from_json(CROP.to_json()) == CROP
    for change in ({"mode": "stretch"}, {"interpolation": "nearest"}, {"mean": [1, 2]}, {"size": "big"}):
        with pytest.raises(ModelError, match="not a model's preprocessing"):
            ImagePreprocessing.from_json({**CROP.to_json(), **change})
