"""Rerankers: a second look at the candidates that a search found, slower and closer than their vectors."""

from crossmodal.rerankers.protocol import Item, RegionReranker, Regions, Reranker
from crossmodal.rerankers.registry import load_reranker, public_name

__all__ = ["Item", "RegionReranker", "Regions", "Reranker", "load_reranker", "public_name"]
