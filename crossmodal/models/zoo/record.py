"""What the zoo knows of one model: plain data, written down once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["Library", "ModelRecord", "Result"]

Library = Literal["native", "open_clip", "transformers", "vse++"]


@dataclass(frozen=True, slots=True)
class Result:
    """A published result in both directions, in percent.

    ``metric`` is ``recall@1`` or ``hit@10``; image to text counts a query as solved when any caption of its
    photo is found, which the field calls recall as well.
    """

    data_set: str
    metric: str
    text_to_image: float
    image_to_text: float


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model of the zoo.

    ``name`` is what ``-m`` takes. ``architecture`` and ``pretrained`` are open_clip's names for open_clip's
    models. ``repository`` is the model hub's, None where there is none. ``parameters`` counts both towers;
    ``download_size`` is in bytes, None where it isn't known. ``text_length`` is in tokens, begin and end
    included; None means any length. ``custom_code`` tells that it runs only with ``--trust-remote-code``.
    ``results_source`` says where ``results`` were read, or why there are none.
    """

    name: str
    library: Library
    architecture: str
    dimension: int
    preprocessing: ImagePreprocessing
    text_length: int | None
    parameters: int
    download_size: int | None
    licence: str
    languages: str
    source: str
    results_source: str
    results: tuple[Result, ...] = ()
    pretrained: str | None = None
    repository: str | None = None
    custom_code: bool = False

    @property
    def shipped(self) -> bool:
        """Whether its weights are in this repository."""
        return self.library == "native"

    def result(self, data_set: str) -> Result | None:
        """The published result on one data set, or None."""
        return next((result for result in self.results if result.data_set == data_set), None)

    def to_json(self) -> Mapping[str, Any]:
        """The record as a JSON object."""
        return {**asdict(self), "preprocessing": self.preprocessing.describe(), "shipped": self.shipped}
