"""Small random models of real architectures, made where a test needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from photos import toy_photo

from crossmodal.models import (
    identify_model,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
)
from crossmodal.models.libraries import import_torchvision

SENTENCES = [
    "a cat on a sofa",
    "",
    "Two Dogs, running; in the SNOW!",
    "Ein Satz mit Umlauten: \u00e4\u00f6\u00fc \U0001f408",
    "word " * 300,
]
# A tall, a wide and a nearly square photo.
PHOTOS = ("cat.jpg", "coffee.jpg", "rocket.jpg")

WORDS = (
    "a",
    "cat",
    "on",
    "sofa",
    "two",
    "dogs",
    "running",
    "in",
    "the",
    "snow",
    "ein",
    "satz",
    "mit",
    "word",
)


def save_tokenizer(folder: Path, special: dict[str, str], *, lower_case: bool = False) -> Any:
    """A real tokenizer of a few words, saved as the model hub has them.

    ``special`` names the special tokens as transformers does (``pad_token``, ``eos_token``, ...) in the order
    of their numbers; every text ends with ``eos_token``.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = list(dict.fromkeys(special.values()))
    vocabulary = {token: number for number, token in enumerate([*tokens, *WORDS, ",", "!", ";"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    if lower_case:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    begin = f"{special['bos_token']} " if "bos_token" in special else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin}$A {special['eos_token']}",
        special_tokens=[(token, vocabulary[token]) for token in tokens],
    )
    tokenizer_class: Any = PreTrainedTokenizerFast
    fast = tokenizer_class(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    return fast


def squares(name: str, cache: Path) -> npt.NDArray[np.uint8]:
    """The photos as the model ``name`` sees them, by torchvision: encoders are compared on equal pixels."""
    preprocessing = load_preprocessing(name, cache=cache)
    import_torchvision()
    from torchvision.transforms import functional

    size, interpolation = preprocessing.size, functional.InterpolationMode(preprocessing.interpolation)
    if preprocessing.mode == "squash":
        scaled = [functional.resize(toy_photo(photo), [size, size], interpolation) for photo in PHOTOS]
    else:
        side = preprocessing.short_side or size
        scaled = [
            functional.center_crop(functional.resize(toy_photo(photo), side, interpolation), [size, size])
            for photo in PHOTOS
        ]
    return np.stack([np.asarray(photo) for photo in scaled])


def assert_vectors(
    name: str,
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    cache: Path,
    *,
    trust_remote_code: bool = False,
    tolerance: float = 1e-5,
) -> None:
    """Both encoders of the model ``name`` give the reference's vectors and agree on who they are."""
    image_encoder = load_image_encoder(name, cache=cache, trust_remote_code=trust_remote_code)
    np.testing.assert_allclose(image_encoder.encode(squares(name, cache)), images, atol=tolerance)
    text_encoder = load_text_encoder(name, cache=cache, trust_remote_code=trust_remote_code)
    np.testing.assert_allclose(text_encoder.encode(SENTENCES), texts, atol=tolerance)
    identity = identify_model(name, cache=cache)
    assert image_encoder.identity == text_encoder.identity == identity
    assert identity.name == name
    assert identity.dimension == images.shape[1] == texts.shape[1]
    assert identity.preprocessing == load_preprocessing(name, cache=cache).describe()
    # Vectors that hardly differ could not tell a right encoder from a wrong one.
    for vectors in (images, texts):
        assert np.abs(vectors - vectors[0]).max() > 100 * tolerance
