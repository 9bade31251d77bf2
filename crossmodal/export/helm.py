"""A plan as a chart of Helm: the objects of Kubernetes with what differs between clusters as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crossmodal import __version__
from crossmodal.export.kubernetes import kubernetes_objects
from crossmodal.export.plan import IMAGE, PROXY_IMAGE, SERVER, Plan
from crossmodal.yaml_files import yaml_text

__all__ = ["helm_chart"]

# So that what stands for a value isn't broken.
_UNBROKEN = 10_000

# A number: YAML would quote what stands for it.
_NUMBER = re.compile(r"'(\{\{ [^}]+ \| int \}\})'")


def helm_chart(plan: Plan, secrets: Mapping[str, str], *, milvus: bool) -> dict[str, str]:
    """The texts of the chart's files by their names; with ``milvus``, that is one more chart it brings."""
    values: dict[str, Any] = {
        "image": IMAGE,
        "proxyImage": PROXY_IMAGE,
        "storage": "20Gi",
        "secrets": {_camel(name): value for name, value in secrets.items()},
        "encoders": {},
    }
    named = {name: _value(f"secrets.{_camel(name)}") for name in secrets}
    files = {}
    for name, objects in kubernetes_objects(plan, named).items():
        for each in objects:
            _put_values(each, values)
        files[f"templates/{name}"] = _NUMBER.sub(r"\1", yaml_text(*objects, width=_UNBROKEN))
    chart: dict[str, Any] = {
        "apiVersion": "v2",
        "name": SERVER,
        "description": "Search photos by a sentence, and captions by a photo",
        "type": "application",
        "version": "0.1.0",
        "appVersion": __version__,
    }
    if milvus:
        values["milvus"] = {"enabled": False}
        chart["dependencies"] = [
            {
                "name": "milvus",
                "version": ">=4.0.0",
                "repository": "https://zilliztech.github.io/milvus-helm/",
                "condition": "milvus.enabled",
            }
        ]
    dumped = {"Chart.yaml": chart, "values.yaml": values}
    return {name: yaml_text(each) for name, each in dumped.items()} | files


def _put_values(each: dict[str, Any], values: dict[str, Any]) -> None:
    spec = each.get("spec", {})
    if each["kind"] == "HorizontalPodAutoscaler":
        name = _camel(each["metadata"]["name"].removeprefix(f"{SERVER}-"))
        values["encoders"][name] = {"least": spec["minReplicas"], "most": spec["maxReplicas"]}
        spec["minReplicas"] = _value(f"encoders.{name}.least | int")
        spec["maxReplicas"] = _value(f"encoders.{name}.most | int")
    pod = spec.get("template", {}).get("spec", {})
    for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
        container["image"] = _value("image" if container["image"] == IMAGE else "proxyImage")
    for claim in spec.get("volumeClaimTemplates", ()):
        claim["spec"]["resources"]["requests"]["storage"] = _value("storage")


def _value(name: str) -> str:
    return f"{{{{ .Values.{name} }}}}"


def _camel(name: str) -> str:
    first, *others = name.split("-")
    return first + "".join(other.capitalize() for other in others)
