"""Pictures of photos for browsers, JPEGs and small WebPs, made when they are asked for and kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import ExitStack

from crossmodal.images.limits import MEGABYTE
from crossmodal.images.pool import DecodePool, shared_pool
from crossmodal.images.previews import PREVIEW_SIDES

__all__ = ["Pictures"]

# Some dozens of photos of a telephone, some thousands of previews. Each process that serves keeps its own.
_KEPT_BYTES = 128 * MEGABYTE


class Pictures:
    """Makes pictures in the processes that decode, and keeps those asked for lately, ``most`` bytes of them.

    ``memory`` is what all decoding together may take, in bytes, as ``shared_pool`` takes it. Safe across
    threads.
    """

    def __init__(self, *, max_pixels: int, memory: int, most: int = _KEPT_BYTES) -> None:
        self._max_pixels, self._memory, self._most = max_pixels, memory, most
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._pool: DecodePool | None = None
        self._kept: OrderedDict[tuple[str, int | None], bytes] = OrderedDict()
        self._size = 0

    def kept(self, tag: str, size: int | None = None) -> bytes | None:
        """The picture of the file that ``tag`` names, where it was made lately in that size."""
        with self._lock:
            if (tag, size) not in self._kept:
                return None
            self._kept.move_to_end((tag, size))
            return self._kept[tag, size]

    def made(self, tag: str, file: bytes, size: int | None = None) -> bytes:
        """The picture of ``file``, which ``tag`` names: a JPEG, its longer side at most ``size`` pixels.

        None stands for all of them, and a size of PREVIEW_SIDES for that preview. Raises as
        ``DecodePool.picture``.
        """
        if (kept := self.kept(tag, size)) is not None:
            return kept
        pool = self._opened_pool()
        if size in PREVIEW_SIDES:
            picture = pool.preview(file, size, max_pixels=self._max_pixels)
        else:
            picture = pool.picture(file, max_pixels=self._max_pixels, side=size)
        with self._lock:
            if (tag, size) not in self._kept:
                self._kept[tag, size] = picture
                self._size += len(picture)
            while self._size > self._most:
                _, oldest = self._kept.popitem(last=False)
                self._size -= len(oldest)
        return picture

    def close(self) -> None:
        """Lets go of the processes, and of all pictures."""
        with self._lock:
            self._held.close()
            self._pool = None
            self._kept.clear()
            self._size = 0

    def _opened_pool(self) -> DecodePool:
        with self._lock:
            if self._pool is None:
                self._pool = self._held.enter_context(shared_pool(self._memory))
            return self._pool
