"""A Flow's YAML: which steps there are, what each needs and takes, its class, and the flowchart of all."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any, Literal

import yaml

from crossmodal.documents import Document
from crossmodal.errors import ServiceError
from crossmodal.steps.step import Step, StepContext
from crossmodal.yaml_files import read_yaml

__all__ = [
    "FLOW_KINDS",
    "GATEWAY",
    "FlowKind",
    "StepEntry",
    "Topology",
    "configured_class",
    "describe_steps",
    "draw_flow",
    "flow_file",
    "load_step",
    "make_step",
    "read_topology",
]

GATEWAY = "gateway"

_PLACING = ("host", "port", "protocol", "external", "tls")

FlowKind = Literal["index", "query"]
FLOW_KINDS: tuple[FlowKind, ...] = ("index", "query")


def flow_file(kind: FlowKind) -> Path:
    """The YAML of one of the two Flows: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    name = Path("flows", f"flow-{kind}.yml")
    return package / name if (package / name).is_file() else package.parent / name


@dataclass(frozen=True, slots=True)
class StepEntry:
    """What a Flow's YAML says of one step.

    ``sharded`` says whether the YAML gives a number of shards, even if it is 1. ``when`` maps a field of
    the document to the value it must have; an empty one takes every document. ``config`` is
    the step's own YAML file. ``placing`` is what the YAML says of the process that jina runs it in: its host,
    port and protocol, and whether it is external.
    """

    name: str
    config: Path
    needs: tuple[str, ...]
    when: Mapping[str, str] = field(default_factory=dict)
    uses_with: Mapping[str, Any] = field(default_factory=dict)
    shards: int = 1
    replicas: int = 1
    sharded: bool = False
    placing: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, document: Document) -> bool:
        """Whether ``document`` passes this step's filter."""
        # A loop, as this is asked of every document at every branch.
        for name, value in self.when.items():  # noqa: SIM110
            if getattr(document, name) != value:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Topology:
    """The steps of one Flow, each after all that it needs."""

    name: str
    steps: tuple[StepEntry, ...]

    @property
    def last(self) -> StepEntry:
        """The step that every branch ends in."""
        return self.steps[-1]

    def refuse(self, docs: Iterable[Document]) -> list[Document]:
        """The documents that no branch takes, each with an error: nothing is lost without a word."""
        first = [step for step in self.steps if GATEWAY in step.needs]
        left = [doc for doc in docs if not any(step.takes(doc) for step in first)]
        for doc in left:
            doc.error = (
                f"No branch of {self.name} takes a document of the modality {doc.modality!r} that "
                f"seeks {doc.seeks!r}."
            )
        return left


def read_topology(path: Path, variables: Mapping[str, str]) -> Topology:
    """Reads a Flow's YAML with ``$NAME`` replaced from ``variables``, as jina does from the environment.

    Raises ServiceError for a variable without a value, a filter other than ``$eq``, a step that needs
    one which does not come before it, or a Flow whose branches do not end in one step.
    """
    try:
        # After parsing, as jina does it: a path or a model's name may hold what means something in YAML.
        described = _substituted(read_yaml(path), variables)
    except KeyError as missing:
        raise ServiceError(f"{path} refers to ${missing.args[0]}, which has no value.") from None
    steps: list[StepEntry] = []
    for entry in described["executors"]:
        step = _read_step(entry, path)
        unknown = set(step.needs) - {GATEWAY} - {earlier.name for earlier in steps}
        if unknown:
            raise ServiceError(
                f"{path}: {step.name} needs {', '.join(sorted(unknown))}, which is not above it."
            )
        steps.append(step)
    needed = {name for step in steps for name in step.needs}
    loose = [step.name for step in steps if step.name not in needed]
    if len(loose) != 1:
        raise ServiceError(f"{path}: the branches must end in one step, but {', '.join(loose)} all do.")
    return Topology(path.stem, tuple(steps))


def _substituted(value: Any, variables: Mapping[str, str]) -> Any:
    """``value`` with ``$NAME`` replaced in every text; keys stay, as jina's operators start with a dollar."""
    if isinstance(value, dict):
        return {key: _substituted(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_substituted(inner, variables) for inner in value]
    return Template(value).substitute(variables) if isinstance(value, str) else value


def _read_step(entry: Mapping[str, Any], path: Path) -> StepEntry:
    needs = entry["needs"]
    return StepEntry(
        name=entry["name"],
        config=(path.parent / entry["uses"]).resolve(),
        needs=(needs,) if isinstance(needs, str) else tuple(needs),
        when={
            name: _equal_to(condition, entry["name"], path)
            for name, condition in entry.get("when", {}).items()
        },
        uses_with=entry.get("uses_with", {}),
        shards=int(entry.get("shards", 1)),
        sharded="shards" in entry,
        replicas=int(entry.get("replicas", 1)),
        placing={name: entry[name] for name in _PLACING if name in entry},
    )


def _equal_to(condition: Mapping[str, str], step: str, path: Path) -> str:
    if set(condition) != {"$eq"}:
        raise ServiceError(f"{path}: {step} filters by {dict(condition)}; only $eq is understood.")
    return condition["$eq"]


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
        described = read_yaml(config)
        return dict(described.get("with") or {})
    except (OSError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise ServiceError(f"The step's file {config} cannot be read: {error}.") from error


def draw_flow(topology: Topology) -> str:
    """The Flow as Mermaid text that ends with a line break; the same Flow gives the same text.

    Each step is a node with its shards and replicas, and each ``needs`` of the YAML an arrow, with the
    step's filter beside it.
    """
    lines = ["flowchart LR", f"    accTitle: The Flow {topology.name}"]
    for step in topology.steps:
        if copies := _copies(step):
            lines.append(f'    {step.name}["{"<br>".join([step.name, *copies])}"]')
        arrow = f'-->|"{_filter_text(step)}"|' if step.when else "-->"
        lines += [f"    {needed} {arrow} {step.name}" for needed in step.needs]
    return "\n".join(lines) + "\n"


def describe_steps(topology: Topology) -> list[dict[str, Any]]:
    """The steps as JSON values, each after all that it needs.

    ``filter`` and ``copies`` are texts, empty where a step takes every document and runs once; ``purpose``
    is the first line of the step's docstring.
    """
    return [
        {
            "name": step.name,
            "needs": list(step.needs),
            "filter": _filter_text(step),
            "copies": ", ".join(_copies(step)),
            "purpose": _purpose(step),
        }
        for step in topology.steps
    ]


def _filter_text(step: StepEntry) -> str:
    return ", ".join(f"{name} = {value}" for name, value in step.when.items())


def _copies(step: StepEntry) -> list[str]:
    counts = ((step.shards, "shards"), (step.replicas, "replicas"))
    return [f"{number} {noun}" for number, noun in counts if number > 1]


def _purpose(step: StepEntry) -> str:
    docstring = configured_class(step.config).__doc__ or ""
    return docstring.strip().partition("\n")[0].replace("``", "")
