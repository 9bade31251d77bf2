"""A copy of ``flows/`` and ``executors/`` that tests may edit, and its Flows in either layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from conftest import REPOSITORY

from crossmodal.flow.runner import LocalFlow
from crossmodal.flow.topology import FlowKind, read_topology
from crossmodal.jina.pods import PodsFlow
from crossmodal.settings import Settings

OWN_CONFIG = """
jtype: StepExecutor
py_modules: [../executor.py]
with: {step: "step.py:Shout"}
metas: {name: shout}
"""

OWN_STEP = """
from crossmodal.steps.step import Step


class Shout(Step):
    def __init__(self, context, *, mark):
        super().__init__(context)
        self._mark = mark

    def search(self, docs, parameters):
        for doc in docs:
            if doc.text == "fail":
                raise KeyError("as asked")
            for match in doc.matches or ():
                match.text = f"{match.id}{self._mark}"
            # An order of its own, which no step after it changes.
            doc.matches.reverse()
"""


class EditedFlows:
    """The two folders, copied into ``folder``."""

    def __init__(self, folder: Path) -> None:
        for name in ("flows", "executors"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._folder = folder

    def edit(self, kind: FlowKind, change: Callable[[list[dict[str, Any]]], None]) -> None:
        """Changes the entries of a Flow's YAML."""
        path = self._path(kind)
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(described["executors"])
        path.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")

    def add_own_step(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Writes a plain step beside the others; returns ``entry`` with what every step says."""
        own = self._folder / "executors" / "shout"
        own.mkdir()
        (own / "config.yml").write_text(OWN_CONFIG)
        (own / "step.py").write_text(OWN_STEP)
        return {
            "uses": "../executors/shout/config.yml",
            "host": "127.0.0.1",
            "grpc_server_options": {"grpc.so_reuseport": 0},
            **entry,
        }

    def open(self, kind: FlowKind, settings: Settings) -> LocalFlow | PodsFlow:
        """The Flow as the layout in ``settings`` runs it."""
        path, variables = self._path(kind), settings.flow_environment()
        if settings.layout == "pods":
            return PodsFlow(kind, path, variables, partial=settings.lost_shards == "partial")
        return LocalFlow(read_topology(path, variables))

    def _path(self, kind: FlowKind) -> Path:
        return self._folder / "flows" / f"flow-{kind}.yml"
