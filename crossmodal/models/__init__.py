"""Models by name: ``load_text_encoder("vse").encode(["a dog on a beach"])``."""

from crossmodal.models.encoders import ImageEncoder, TextEncoder
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.registry import (
    DEFAULT_MODEL,
    identify_model,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
    require_trust,
    weights_size,
)

__all__ = [
    "DEFAULT_MODEL",
    "ImageEncoder",
    "ImagePreprocessing",
    "ModelIdentity",
    "TextEncoder",
    "identify_model",
    "load_image_encoder",
    "load_preprocessing",
    "load_text_encoder",
    "require_trust",
    "weights_size",
]
