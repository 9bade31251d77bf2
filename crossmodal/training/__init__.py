"""Training and fine-tuning models on photos and captions of one's own."""

from crossmodal.training.config import Augmentation, Stage, TrainingConfig, fine_tuning
from crossmodal.training.reports import Epoch, Preparation, Step
from crossmodal.training.train import Run, TrainingResult, train, train_on

__all__ = [
    "Augmentation",
    "Epoch",
    "Preparation",
    "Run",
    "Stage",
    "Step",
    "TrainingConfig",
    "TrainingResult",
    "fine_tuning",
    "train",
    "train_on",
]
