"""How well a model retrieves: ``evaluate("vse", records)``."""

from crossmodal.evaluation.evaluate import DIRECTIONS, Direction, evaluate

__all__ = ["DIRECTIONS", "Direction", "evaluate"]
