"""Work that takes long, each piece done once for all who ask for it, in threads that nothing else needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor

from crossmodal.errors import ServiceError

__all__ = ["SharedWork"]


class SharedWork:
    """Pieces of work, ``most`` of them at a time, in threads of that ``name``. Safe across threads."""

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._changing = threading.Lock()
        self._under_way: dict[Hashable, Future[None]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._given_up = threading.Event()

    def begin(self, key: Hashable, work: Callable[[Callable[[], bool]], None]) -> Future[None]:
        """What ends with the piece of work that ``key`` names, which begins unless it is under way.

        It calls what it is called with, now and then, to know whether it has been given up. What is given up
        before it begins raises ServiceError.
        """
        with self._changing:
            if key in self._under_way:
                return self._under_way[key]
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._most, thread_name_prefix=self._name)
                self._given_up = threading.Event()
            begun = self._threads.submit(_done, work, self._given_up.is_set)
            self._under_way[key] = begun
        # It may have ended by now.
        begun.add_done_callback(lambda ended: self._forget(key, ended))
        return begun

    def close(self) -> None:
        """Gives up what is under way, and waits until that has ended; what is begun later begins anew."""
        with self._changing:
            threads, self._threads = self._threads, None
            self._given_up.set()
            self._under_way = {}
        if threads is not None:
            threads.shutdown()

    def _forget(self, key: Hashable, ended: Future[None]) -> None:
        with self._changing:
            if self._under_way.get(key) is ended:
                del self._under_way[key]


def _done(work: Callable[[Callable[[], bool]], None], is_given_up: Callable[[], bool]) -> None:
    if is_given_up():
        raise ServiceError("Reading was given up before it began, because the index was closed.")
    work(is_given_up)
