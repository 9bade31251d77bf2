"""From a step's ``config.yml`` to the step: the class that it names, made with the YAML's options."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from crossmodal.errors import ServiceError
from crossmodal.flow.topology import StepEntry
from crossmodal.steps.step import Step, StepContext

__all__ = ["configured_class", "load_step", "make_step"]


def load_step(entry: StepEntry, context: StepContext) -> Step:
    """The step of ``entry``, made with what its config file and the Flow's YAML give it.

    Raises ServiceError where the class cannot be found or does not take those options, and what the step
    itself raises.
    """
    return make_step(entry.config, context, {**_options(entry.config), **entry.uses_with})


def make_step(config: Path, context: StepContext, options: Mapping[str, Any]) -> Step:
    """The step whose class ``config`` names, made with ``options``; raises as ``load_step``."""
    kind = configured_class(config)
    named = {name: value for name, value in options.items() if name != "step"}
    try:
        return kind(context, **named)
    except TypeError as error:
        raise ServiceError(
            f"{config}: {kind.__name__} cannot be made of {sorted(named)}: {error}."
        ) from error


def configured_class(config: Path) -> type[Step]:
    """The class that ``with: {step: WHERE:CLASS}`` in ``config`` names.

    WHERE is a module, or a Python file beside ``config``. Raises ServiceError where there is no such class.
    """
    named = _options(config).get("step")
    where, colon, name = str(named).rpartition(":")
    if not colon or not where:
        raise ServiceError(
            f"{config} says step: {named}; it must name the step's class, such as "
            "crossmodal.steps.photos:ImageLoader, or step.py:MyStep for a file beside it."
        )
    try:
        module = _module_of_file(config.parent / where) if where.endswith(".py") else import_module(where)
        kind = getattr(module, name)
    except (ImportError, OSError, AttributeError) as error:
        raise ServiceError(f"{config} names the step {named}, which cannot be loaded: {error}.") from error
    if not (isinstance(kind, type) and issubclass(kind, Step)):
        raise ServiceError(f"{config} names {named}, which is no crossmodal.steps.step:Step.")
    return kind


def _module_of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"crossmodal_step_{path.parent.name}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _options(config: Path) -> Mapping[str, Any]:
    try:
        described = yaml.safe_load(config.read_text(encoding="utf-8"))
        return dict(described.get("with") or {})
    except (OSError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise ServiceError(f"The step's file {config} cannot be read: {error}.") from error
