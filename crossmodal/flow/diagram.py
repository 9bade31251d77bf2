"""A Flow as a Mermaid flowchart, which GitHub and many editors draw, and as plain data for the page."""

from __future__ import annotations

from typing import Any

from crossmodal.flow.step_loading import configured_class
from crossmodal.flow.topology import StepEntry, Topology

__all__ = ["describe_steps", "draw_flow"]


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
