"""What the classes of images share whose libraries decode a file at once, and not as Pillow asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL.ImageFile import ImageFile

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["LatePhoto"]


class LatePhoto(ImageFile):
    """An opened file of which only the header was read; it becomes the decoded image once it is loaded."""

    def load(self) -> Any:
        """Decodes it, as Pillow's ``StubImageFile`` does it for its handlers."""
        image = self._decoded()
        self.__class__ = image.__class__  # type: ignore[assignment]
        self.__dict__ = image.__dict__
        return image.load()

    def _decoded(self) -> Image:
        raise NotImplementedError
