"""The objects of Kubernetes for a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossmodal.export.plan import (
    COMMON_VARIABLES,
    ENCODER_PORT,
    FOLDERS,
    IMAGE,
    PROXY_IMAGE,
    SERVER,
    TLS_PORT,
    Encoder,
    Plan,
)
from crossmodal.export.proxy import PROXY_FILE, proxy_text

__all__ = ["CONNECT", "HTTP_PORT", "kubernetes_objects"]

HTTP_PORT = 45678

# Whether an encoder takes connections.
CONNECT = f"import socket; socket.create_connection(('127.0.0.1', {ENCODER_PORT}), 3).close()"

_NOBODY_ELSE = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_USER = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}

# The most encoders of a kind, by how many there are at least.
_MOST_TIMES = 8

_BUSY_PERCENT = 70

_COMMON = [{"name": name, "value": value} for name, value in COMMON_VARIABLES.items()]

Object = dict[str, Any]


def kubernetes_objects(plan: Plan, secrets: Mapping[str, str]) -> dict[str, list[Object]]:
    """The objects by the name of their file: Secret, ConfigMaps, the server, and each encoder."""
    files = {
        "secret.yaml": [_object("v1", "Secret", SERVER, type="Opaque", stringData=dict(secrets))],
        "flows.yaml": [
            _object("v1", "ConfigMap", f"{SERVER}-flows", data=dict(plan.flows)),
            _object("v1", "ConfigMap", f"{SERVER}-proxy", data={PROXY_FILE: proxy_text()}),
        ],
        "server.yaml": _server(plan),
    }
    for encoder in plan.encoders:
        files[f"{encoder.step.replace('_', '-')}.yaml"] = _encoder(encoder, plan)
    return files


def _server(plan: Plan) -> list[Object]:
    """One process tree beside its volume: SQLite has one writer, and the index lies there."""
    probe = {"path": "/healthz", "port": "http"}
    first = {
        "name": "index",
        "image": IMAGE,
        "command": list(plan.first_command),
        "env": list(_COMMON),
        "resources": _resources(1, plan.memory),
        "securityContext": _NOBODY_ELSE,
        "volumeMounts": [_mount(name, name) for name in ("workspace", "cache", "temporary")],
    }
    container = {
        "name": "server",
        "image": IMAGE,
        "command": list(plan.server_command),
        "env": [
            *_COMMON,
            _from_secret("CROSSMODAL_KEY", "key"),
            {"name": "CROSSMODAL_FLOW_TOKEN_FILE", "value": str(FOLDERS["secrets"] / "flow-token")},
            {"name": "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "value": str(FOLDERS["tls"] / "tls.crt")},
        ],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        # Its start waits for the encoders, which may download a model first.
        "startupProbe": {"httpGet": probe, "periodSeconds": 5, "failureThreshold": 120},
        "livenessProbe": {"httpGet": probe, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        "readinessProbe": {"httpGet": {**probe, "path": "/readyz"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "resources": _resources(2, plan.memory + 2),
        "securityContext": _NOBODY_ELSE,
        "volumeMounts": [
            _mount("workspace", "workspace"),
            _mount("cache", "cache"),
            _mount("temporary", "temporary"),
            _mount("secrets", "secrets", readOnly=True),
            _mount("tls", "tls", readOnly=True),
            *(_mount("flows", "flows", file=name, readOnly=True, subPath=name) for name in plan.flows),
        ],
    }
    spec = {
        "serviceName": SERVER,
        "replicas": 1,
        "selector": {"matchLabels": _labels("server")},
        "template": _pod(
            "server",
            [container],
            [
                _empty("cache"),
                _empty("temporary"),
                _secret_volume("secrets", SERVER),
                _secret_volume("tls", f"{SERVER}-tls"),
                {"name": "flows", "configMap": {"name": f"{SERVER}-flows"}},
            ],
            first=first,
        ),
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "workspace", "labels": _labels("server")},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "20Gi"}},
                },
            }
        ],
    }
    service = {
        "selector": _labels("server"),
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }
    egress: list[Object] = [_names(), _to("encoder", TLS_PORT)]
    if plan.database_port is not None:
        egress.append(_ports(plan.database_port))
    # Models are downloaded.
    egress.append(_ports(443))
    return [
        _object("apps/v1", "StatefulSet", SERVER, "server", spec=spec),
        _object("v1", "Service", SERVER, "server", spec=service),
        _policy(SERVER, "server", ingress=_ports(HTTP_PORT), egress=egress),
    ]


def _encoder(encoder: Encoder, plan: Plan) -> list[Object]:
    name, role = encoder.name, encoder.step
    volumes = [
        _empty("cache"),
        _empty("temporary"),
        _secret_volume("secrets", SERVER, only="flow-token"),
        _secret_volume("tls", f"{SERVER}-tls"),
        {"name": "proxy", "configMap": {"name": f"{SERVER}-proxy"}},
    ]
    selector = {"matchLabels": _labels(role)}
    return [
        _object(
            "apps/v1",
            "Deployment",
            name,
            role,
            spec={
                "selector": selector,
                "template": _pod(role, [_step(encoder, plan), _proxy()], volumes, encoder=True),
            },
        ),
        _object(
            "v1",
            "Service",
            name,
            role,
            spec={
                "selector": _labels(role),
                "ports": [{"name": "grpcs", "port": TLS_PORT, "targetPort": "grpcs"}],
            },
        ),
        _object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            name,
            role,
            spec={
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": encoder.replicas,
                "maxReplicas": _MOST_TIMES * encoder.replicas,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": _BUSY_PERCENT},
                        },
                    }
                ],
            },
        ),
        _object(
            "policy/v1", "PodDisruptionBudget", name, role, spec={"maxUnavailable": 1, "selector": selector}
        ),
        _policy(
            name,
            role,
            ingress={"from": [{"podSelector": {"matchLabels": _labels("server")}}], **_ports(TLS_PORT)},
            egress=[_names(), _ports(443)],
        ),
    ]


def _step(encoder: Encoder, plan: Plan) -> Object:
    running = {"exec": {"command": ["python", "-c", CONNECT]}}
    return {
        "name": "encoder",
        "image": IMAGE,
        "command": list(encoder.command),
        "env": [
            {"name": "CROSSMODAL_FLOW_TOKEN_FILE", "value": str(FOLDERS["secrets"] / "flow-token")},
            *_COMMON,
        ],
        # It listens once its model is loaded, which may be downloaded first.
        "startupProbe": {**running, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 120},
        "livenessProbe": {**running, "periodSeconds": 20, "timeoutSeconds": 5},
        "resources": _resources(1, plan.memory),
        "securityContext": _NOBODY_ELSE,
        "volumeMounts": [
            _mount("cache", "cache"),
            _mount("temporary", "temporary"),
            _mount("secrets", "secrets", readOnly=True),
        ],
    }


def _proxy() -> Object:
    """What ends TLS in front of an encoder, in its pod."""
    return {
        "name": "tls",
        "image": PROXY_IMAGE,
        "ports": [{"name": "grpcs", "containerPort": TLS_PORT}],
        "readinessProbe": {"tcpSocket": {"port": "grpcs"}, "periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "50m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
        "securityContext": _NOBODY_ELSE,
        "volumeMounts": [
            _mount("tls", "tls", readOnly=True),
            _mount("temporary", "temporary"),
            {"name": "proxy", "mountPath": "/etc/nginx/nginx.conf", "subPath": PROXY_FILE, "readOnly": True},
        ],
    }


def _object(version: str, kind: str, name: str, role: str = "", **rest: Any) -> Object:
    labels = _labels(role) if role else {"app.kubernetes.io/name": SERVER}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}, **rest}


def _labels(role: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": SERVER, "app.kubernetes.io/component": role.replace("_", "-")}


def _pod(
    role: str,
    containers: Sequence[Object],
    volumes: Sequence[Object],
    *,
    first: Object | None = None,
    encoder: bool = False,
) -> Object:
    kind = {f"{SERVER}/encoder": "true"} if encoder else {}
    return {
        "metadata": {"labels": {**_labels(role), **kind}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {**_USER, "seccompProfile": {"type": "RuntimeDefault"}},
            **({} if first is None else {"initContainers": [first]}),
            "containers": list(containers),
            "volumes": list(volumes),
        },
    }


def _resources(cpu: int, memory: int) -> Object:
    return {
        "requests": {"cpu": str(cpu), "memory": f"{memory}Gi"},
        "limits": {"cpu": str(2 * cpu), "memory": f"{2 * memory}Gi"},
    }


def _mount(name: str, folder: str, *, file: str = "", **more: Any) -> Object:
    return {"name": name, "mountPath": str(FOLDERS[folder] / file), **more}


def _empty(name: str) -> Object:
    return {"name": name, "emptyDir": {}}


def _secret_volume(name: str, secret: str, *, only: str = "") -> Object:
    items = {"items": [{"key": only, "path": only}]} if only else {}
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440, **items}}


def _from_secret(variable: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": SERVER, "key": key}}}


def _policy(name: str, role: str, *, ingress: Object, egress: Sequence[Object]) -> Object:
    """Who may ask the pods of a role, and whom they may ask."""
    return _object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        role,
        spec={
            "podSelector": {"matchLabels": _labels(role)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [ingress],
            "egress": list(egress),
        },
    )


def _ports(port: int) -> Object:
    return {"ports": [{"protocol": "TCP", "port": port}]}


def _names() -> Object:
    """That names may be looked up."""
    return {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}


def _to(kind: str, port: int) -> Object:
    return {
        "to": [{"podSelector": {"matchLabels": {f"{SERVER}/{kind}": "true"}}}],
        **_ports(port),
    }
