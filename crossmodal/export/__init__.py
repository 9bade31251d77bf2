"""Manifests of the Flows for Kubernetes, Helm and Compose: a server, and encoders beside it that scale."""

from crossmodal.export.writing import export

__all__ = ["export"]
