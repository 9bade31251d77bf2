"""Steps for tests of what runs them; each instance is found again by its name in the Flow and its shard."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from crossmodal.documents import Document
from crossmodal.flow.runner import LocalFlow
from crossmodal.flow.topology import read_topology
from crossmodal.steps.step import Step, StepContext


class Recording(Step):
    """Notes which documents came, in which threads, and how many requests were inside at once.

    A request ends when ``together`` are inside, or after ``seconds``. One with a document whose id is the
    parameter ``failing`` raises.
    """

    made: ClassVar[dict[str, Recording]] = {}

    def __init__(
        self, context: StepContext, *, at_once: int | None = None, together: int = 1, seconds: float = 0.0
    ) -> None:
        super().__init__(context)
        self.seen: list[str] = []
        self.threads: dict[str, int] = {}
        self.most = self.inside = 0
        self.closed = False
        self._at_once = at_once
        self._seconds = seconds
        self._lock = threading.Lock()
        self._together = threading.Barrier(together)
        self.made[f"{context.name}/{context.shard}"] = self

    @property
    def concurrency(self) -> int | None:
        """What the options say."""
        return self._at_once

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Notes the request."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        if self._seconds:
            with contextlib.suppress(threading.BrokenBarrierError):
                self._together.wait(self._seconds)
                # Long enough for one too many to come in as well.
                time.sleep(0.05)
        with self._lock:
            self.inside -= 1
            self.seen += [doc.id for doc in docs]
            self.threads |= {doc.id: threading.get_ident() for doc in docs}
        if any(doc.id == parameters.get("failing") for doc in docs):
            raise ValueError("as asked")

    def close(self) -> None:
        """Notes that it was closed."""
        self.closed = True


class RecordingWriter(Recording):
    """The same where requests that write come."""

    writes = True

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Notes the request."""
        self.search(docs, parameters)


class LaterFirst(Step):
    """Works on three requests at once, called 0, 1 and 2, and is done with the later ones first."""

    def __init__(self, context: StepContext) -> None:
        super().__init__(context)
        self._done = [threading.Event() for _ in range(4)]
        self._done[3].set()

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Waits for the request that came later."""
        number = int(docs[0].id)
        self._done[number + 1].wait(30)
        self._done[number].set()
        if number == parameters.get("failing"):
            raise ValueError("as asked")


def flow_of(folder: Path, *steps: Mapping[str, Any]) -> LocalFlow:
    """A Flow of such steps: each an entry of the YAML, ``step`` its class and ``with`` its options."""
    Recording.made.clear()
    entries = []
    for step in steps:
        entry = {"needs": "gateway", **step}
        config = folder / "executors" / entry["name"] / "config.yml"
        config.parent.mkdir(parents=True)
        config.write_text(
            yaml.safe_dump({"with": {"step": f"recording_steps:{entry.pop('step', 'Recording')}"}})
        )
        entry["uses"] = f"../executors/{entry['name']}/config.yml"
        entry["uses_with"] = entry.pop("with", {})
        entries.append(entry)
    path = folder / "flows" / "flow.yml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"executors": entries}))
    return LocalFlow(read_topology(path, {}))
