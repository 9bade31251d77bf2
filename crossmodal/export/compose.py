"""A plan as a file of Docker Compose."""

from __future__ import annotations

from typing import Any

from crossmodal.export.kubernetes import CONNECT, HTTP_PORT
from crossmodal.export.plan import COMMON_VARIABLES, FOLDERS, IMAGE, PROXY_IMAGE, SERVER, Encoder, Plan
from crossmodal.export.proxy import PROXY_FILE

__all__ = ["compose_file"]

_HEALTH = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{}/readyz', timeout=4)"

_VOLUMES = [f"workspace:{FOLDERS['workspace']}", f"cache:{FOLDERS['cache']}"]

Service = dict[str, Any]


def compose_file(plan: Plan) -> dict[str, Any]:
    """The file's values; Flows, the proxy's configuration and secrets are files beside it."""
    services = {SERVER: _server(plan), f"{SERVER}-index": _first(plan)}
    for encoder in plan.encoders:
        services[encoder.name] = _encoder(encoder, plan)
        services[f"{encoder.name}-tls"] = _proxy(encoder)
    configs = {name.partition(".")[0]: {"file": f"./{name}"} for name in (*plan.flows, PROXY_FILE)}
    return {
        "name": SERVER,
        "services": services,
        "volumes": {"workspace": {}, "cache": {}},
        "configs": configs,
        "secrets": {
            "flow-token": {"file": "./secrets/flow-token"},
            "tls-crt": {"file": "./secrets/tls.crt"},
            "tls-key": {"file": "./secrets/tls.key"},
        },
    }


def _server(plan: Plan) -> Service:
    return {
        **_contained(IMAGE, list(plan.server_command), 4, 2 * (plan.memory + 2)),
        "depends_on": {
            f"{SERVER}-index": {"condition": "service_completed_successfully"},
            **{encoder.name: {"condition": "service_healthy"} for encoder in plan.encoders},
        },
        "environment": {
            **COMMON_VARIABLES,
            "CROSSMODAL_KEY": "${CROSSMODAL_KEY:?set it, or keep the file .env}",
            "CROSSMODAL_FLOW_TOKEN_FILE": str(FOLDERS["secrets"] / "flow-token"),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(FOLDERS["tls"] / "tls.crt"),
        },
        "ports": [f"127.0.0.1:{HTTP_PORT}:{HTTP_PORT}"],
        "healthcheck": _health(_HEALTH.format(HTTP_PORT)),
        "volumes": _VOLUMES,
        "configs": [
            {"source": name.partition(".")[0], "target": str(FOLDERS["flows"] / name)} for name in plan.flows
        ],
        "secrets": [_secret("flow-token", "secrets", "flow-token"), _secret("tls-crt", "tls", "tls.crt")],
    }


def _first(plan: Plan) -> Service:
    once = _contained(IMAGE, list(plan.first_command), 2, 2 * plan.memory)
    return {**once, "restart": "no", "environment": COMMON_VARIABLES, "volumes": _VOLUMES}


def _encoder(encoder: Encoder, plan: Plan) -> Service:
    return {
        **_contained(IMAGE, list(encoder.command), 2, 2 * plan.memory),
        "environment": {
            "CROSSMODAL_FLOW_TOKEN_FILE": str(FOLDERS["secrets"] / "flow-token"),
            **COMMON_VARIABLES,
        },
        "healthcheck": _health(CONNECT),
        "volumes": [f"cache:{FOLDERS['cache']}"],
        "secrets": [_secret("flow-token", "secrets", "flow-token")],
    }


def _proxy(encoder: Encoder) -> Service:
    """On the loopback of its encoder, whose name it answers by."""
    return {
        **_contained(PROXY_IMAGE, None, 1, 0),
        "network_mode": f"service:{encoder.name}",
        "configs": [{"source": PROXY_FILE.partition(".")[0], "target": "/etc/nginx/nginx.conf"}],
        "secrets": [_secret("tls-crt", "tls", "tls.crt"), _secret("tls-key", "tls", "tls.key")],
    }


def _contained(image: str, command: list[str] | None, cpus: int, memory: int) -> Service:
    return {
        "image": image,
        **({} if command is None else {"command": command}),
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": [str(FOLDERS["temporary"])],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {"resources": {"limits": {"cpus": str(cpus), "memory": f"{memory}g" if memory else "64m"}}},
    }


def _health(code: str) -> Service:
    times = {"interval": "10s", "timeout": "5s", "retries": 3, "start_period": "600s"}
    return {"test": ["CMD", "python", "-c", code], **times}


def _secret(source: str, folder: str, file: str) -> Service:
    return {"source": source, "target": str(FOLDERS[folder] / file)}
