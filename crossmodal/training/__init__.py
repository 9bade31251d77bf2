"""Training and fine-tuning models on photos and captions of one's own."""

from crossmodal.training.config import Augmentation, Stage, TrainingConfig
from crossmodal.training.defaults import fine_tuning
from crossmodal.training.train import Preparation, Run, TrainingResult, train, train_on

__all__ = [
    "Augmentation",
    "Preparation",
    "Run",
    "Stage",
    "TrainingConfig",
    "TrainingResult",
    "fine_tuning",
    "train",
    "train_on",
]
