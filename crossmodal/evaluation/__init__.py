"""How well a model retrieves: ``evaluate("vse", records)``, or in two steps with ``encode_records``."""

from crossmodal.evaluation.encoding import EncodedSet, EncodedSide, encode_batches, encode_records
from crossmodal.evaluation.retrieval import (
    DIRECTIONS,
    Direction,
    Retrieval,
    Subset,
    evaluate,
    evaluate_encoded,
)

__all__ = [
    "DIRECTIONS",
    "Direction",
    "EncodedSet",
    "EncodedSide",
    "Retrieval",
    "Subset",
    "encode_batches",
    "encode_records",
    "evaluate",
    "evaluate_encoded",
]
