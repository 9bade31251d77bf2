"""Training VSE++ on photos and captions of one's own."""

from crossmodal.training.config import TrainingConfig
from crossmodal.training.train import Progress, TrainingResult, train, train_on

__all__ = ["Progress", "TrainingConfig", "TrainingResult", "train", "train_on"]
