"""The two YAML files are Flows of jina, which exports them where images stand in place of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, run_python
from needs_jina import needs_jina

from crossmodal.flow.topology import read_topology
from crossmodal.settings import Settings

EXPORT = """
import json, re, sys
from pathlib import Path
from jina import Flow

def export(source, folder):
    flow = Flow.load_config(str(source))
    steps = {
        name: [pod.args.when, sorted(pod.needs), pod.args.shards, pod.args.replicas] for name, pod in flow
    }
    try:
        flow.to_kubernetes_yaml(str(folder / "refused"))
        refused = ""
    except Exception as error:
        refused = type(error).__name__
    uses = r"uses: [.][.]/executors/([a-z_]+)/config.yml"
    text, count = re.subn(uses, r"uses: docker://own/\\1", source.read_text())
    copy = folder / "flow.yml"
    copy.write_text(text)
    Flow.load_config(str(copy)).to_kubernetes_yaml(str(folder / "kubernetes"))
    Flow.load_config(str(copy)).to_docker_compose_yaml(str(folder / "compose.yml"))
    return {"steps": steps, "refused": refused, "count": count}


print(json.dumps([export(*pair) for pair in zip(*[map(Path, sys.argv[1:])] * 2)]))
"""


@needs_jina
@pytest.mark.slow
def test_jina_loads_the_flows_and_exports_them_with_images(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "index", model="vse", shards=2, parallel=3)
    variables = settings.flow_environment()
    # Offline: without it, jina asks its hub for an image of the gateway.
    quiet = {"JINA_GATEWAY_IMAGE": "own/gateway", "JINA_LOG_LEVEL": "CRITICAL", "JINA_OPTOUT_TELEMETRY": "1"}
    pairs = [(REPOSITORY / "flows" / f"flow-{kind}.yml", tmp_path / kind) for kind in ("index", "query")]
    for _, folder in pairs:
        folder.mkdir()
    paths = [path for pair in pairs for path in pair]
    done = run_python("-c", EXPORT, *paths, environment={**variables, **quiet})
    assert done.returncode == 0, done.stderr
    for (source, folder), found in zip(pairs, json.loads(done.stdout.splitlines()[-1]), strict=True):
        steps = yaml.safe_load(source.read_text(encoding="utf-8"))["executors"]
        read = {step.name: step for step in read_topology(source, variables).steps}
        assert found["count"] == len(found["steps"]) == len(read) == len(steps)
        for step in steps:
            when, needs, shards, replicas = found["steps"][step["name"]]
            same = read[step["name"]]
            assert when == step.get("when")
            assert (needs, shards) == (sorted(same.needs), same.shards)
            assert replicas == (3 if step.get("replicas") else 1)
        # Kubernetes and Compose start images, and the steps are files.
        assert found["refused"] == "NoContainerizedError"
        made = {path.name for path in (folder / "kubernetes").iterdir()}
        assert made == {"gateway", *read}
        compose = yaml.safe_load((folder / "compose.yml").read_text(encoding="utf-8"))
        images = {service["image"] for service in compose["services"].values()}
        assert images == {"own/gateway"} | {f"own/{step['uses'].split('/')[-2]}" for step in steps}
