"""A Flow in a process of its own that posts what tests say: jina forks, and pytest must not be forked."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[1]


class FlowProcess:
    """The Flow ``kind`` over ``workspace``; ``post`` returns each answered document's fields."""

    def __init__(self, kind: str, workspace: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, kind, "--workspace", str(workspace), *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def post(
        self,
        endpoint: str,
        docs: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Posts one request; ``blob`` is bytes, ``embedding`` a list of numbers."""
        request = {"endpoint": endpoint, "parameters": parameters or {}, "docs": [_packed(d) for d in docs]}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        assert self._process.stdout is not None
        answer: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Closes stdin, which is the end of what the process reads.
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        assert self._process.returncode == 0


def _packed(doc: Mapping[str, Any]) -> dict[str, Any]:
    packed = dict(doc)
    if "blob" in packed:
        packed["blob"] = base64.b64encode(packed["blob"]).decode()
    return packed


def _serve() -> None:
    import numpy as np

    sys.path.insert(0, str(REPOSITORY))
    from crossmodal.cli.opening import open_for_reading, open_for_writing
    from crossmodal.documents import MediaDocument
    from crossmodal.settings import read_settings
    from crossmodal.workspace import Workspace
    from flows.client import post
    from flows.service import FlowService, stop_on_signals

    kind: Any = sys.argv[1]
    settings = read_settings(["-t", "query" if kind == "query" else "index", *sys.argv[2:]], {})
    opening = open_for_reading if kind == "query" else open_for_writing
    settings = opening(settings, Workspace(settings.workspace))
    with stop_on_signals(), FlowService(kind, settings) as service:
        for line in sys.stdin:
            request = json.loads(line)
            docs = []
            for fields in request["docs"]:
                if "blob" in fields:
                    fields["blob"] = base64.b64decode(fields["blob"])
                if "embedding" in fields:
                    fields["embedding"] = np.asarray(fields["embedding"], np.float32)
                docs.append(MediaDocument(**fields))
            answered = post(service, request["endpoint"], docs, request["parameters"])
            print(json.dumps([_described(doc) for doc in answered]), flush=True)


def _described(doc: Any) -> dict[str, Any]:
    matches = None if doc.matches is None else [[str(m.id), m.score, m.text, m.tags] for m in doc.matches]
    return {
        "id": str(doc.id),
        "outcome": doc.outcome,
        "error": doc.error,
        "aborted": doc.aborted,
        "trail": sorted(set(doc.trail or ())),
        "embedding": None if doc.embedding is None else [float(value) for value in doc.embedding],
        "matches": matches,
    }


if __name__ == "__main__":
    _serve()
