"""The files of an export in one folder."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from crossmodal.access.keys import new_secret
from crossmodal.errors import SettingsError, StoreUnwritable
from crossmodal.export.compose import compose_file
from crossmodal.export.helm import helm_chart
from crossmodal.export.kubernetes import kubernetes_objects
from crossmodal.export.plan import SERVER, Plan, make_plan
from crossmodal.export.proxy import PROXY_FILE, proxy_text
from crossmodal.index.backends import Backend
from crossmodal.private_files import make_private_folder, private_opener
from crossmodal.settings import Settings
from crossmodal.yaml_files import yaml_text

__all__ = ["export"]

_TOKEN_BYTES = 32

# A container has another user: of what Compose mounts, the folder alone keeps others out.
_READABLE = 0o644

_KUBECTL = f"kubectl create secret tls {SERVER}-tls --cert tls.crt --key tls.key"


def export(settings: Settings, target: str, folder: Path) -> list[str]:
    """Writes what ``target``, one of ``settings.EXPORTS``, needs into a new folder; what to run from there.

    The key of the API and the token of the Flow are made anew. Raises SettingsError where the folder holds
    something, or the settings name what is on this machine alone, and StoreUnwritable.
    """
    plan = make_plan(settings)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"--output {folder} is not empty; name a new folder, as secrets are made anew.")
    made = {"key": new_secret(), "flow-token": secrets.token_hex(_TOKEN_BYTES)}
    files, commands = {
        "kubernetes": _kubernetes,
        "compose": _compose,
        "helm": _helm,
    }[target](plan, made, settings)
    try:
        for name, text in files.items():
            make_private_folder((folder / name).parent)
            with open(folder / name, "w", encoding="utf-8", opener=private_opener) as file:
                file.write(text)
            if name == "secrets/flow-token":
                (folder / name).chmod(_READABLE)
    except OSError as error:
        raise StoreUnwritable(f"{folder} cannot be written ({error.strerror}).") from error
    return [f"cd {folder}", _certificate(plan, "secrets/" if target == "compose" else ""), *commands]


Files = tuple[dict[str, str], list[str]]


def _kubernetes(plan: Plan, made: Mapping[str, str], settings: Settings) -> Files:
    files = {name: yaml_text(*objects) for name, objects in kubernetes_objects(plan, made).items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    files["kustomization.yaml"] = yaml_text(kustomization)
    return files, [_KUBECTL, "kubectl apply -k ."]


def _compose(plan: Plan, made: Mapping[str, str], settings: Settings) -> Files:
    files = {
        "compose.yaml": yaml_text(compose_file(plan)),
        ".env": f"CROSSMODAL_KEY={made['key']}\n",
        "secrets/flow-token": made["flow-token"],
        PROXY_FILE: proxy_text(),
        **plan.flows,
    }
    return files, ["chmod a+r secrets/tls.key", "docker compose up -d"]


def _helm(plan: Plan, made: Mapping[str, str], settings: Settings) -> Files:
    milvus = Backend.of(settings.backend).kind == "milvus"
    update = ["helm dependency update ."] if milvus else []
    return helm_chart(plan, made, milvus=milvus), [_KUBECTL, *update, f"helm install {SERVER} ."]


def _certificate(plan: Plan, folder: str) -> str:
    names = ",".join(f"DNS:{encoder.name}" for encoder in plan.encoders)
    return (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 825 -keyout {folder}tls.key -out {folder}tls.crt "
        f"-subj /CN={SERVER} -addext subjectAltName={names}"
    )
