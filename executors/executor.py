"""What jina loads for every step: the adapter, which makes the step that ``config.yml`` names."""

from crossmodal.jina.executor import StepExecutor

__all__ = ["StepExecutor"]
