"""What jina loads for every step: the adapter, which makes the step that ``config.yml`` names."""

from pathlib import Path

from crossmodal.jina.executor import StepExecutor

__all__ = ["StepExecutor"]

# A step's own files lie beside its config.yml.
StepExecutor.folder = Path(__file__).resolve().parent
