"""A bounded number of places for one kind of work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from crossmodal.errors import Overloaded

__all__ = ["Places"]


class Places:
    """The ``most`` places of one kind of work, ``name``; who finds none is refused. For one event loop."""

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.held = 0
        self.shed = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def full(self) -> bool:
        """Whether the next one would be refused."""
        return self.held >= self.most

    @contextmanager
    def take(self, number: int = 1) -> Iterator[None]:
        """Holds places as long as the context lasts; raises Overloaded where there are not enough.

        What is larger than all places together gets them where nothing else is under way.
        """
        number = min(number, self.most)
        if self.held + number > self.most:
            self.refuse()
        self.held += number
        try:
            yield
        finally:
            self.give_back(number)

    async def wait_for(self, number: int) -> int:
        """Takes places as soon as there are enough; how many, which are to be given back."""
        number = min(number, self.most)
        while self.held + number > self.most:
            freed = asyncio.get_running_loop().create_future()
            self._waiting.add(freed)
            try:
                await freed
            finally:
                self._waiting.discard(freed)
        self.held += number
        return number

    def give_back(self, number: int) -> None:
        """Gives places back; who waits for some looks again."""
        self.held -= number
        for freed in self._waiting:
            if not freed.done():
                freed.set_result(None)

    def refuse(self) -> None:
        """Counts a refusal and raises Overloaded."""
        self.shed += 1
        raise Overloaded(
            f"This server is busy: it works on {self.held:,} {self.name} and takes on {self.most:,}. "
            "Try again in a moment."
        )
