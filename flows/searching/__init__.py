"""Searches of composed queries through the query Flow."""

from __future__ import annotations

from flows.searching.service import SearchService

__all__ = ["SearchService"]
