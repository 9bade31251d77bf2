"""Requests to a server in this process, as from any address, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from crossmodal.engine.engine import Engine
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving
from crossmodal.settings import Settings

__all__ = ["AsgiClient", "serving_in"]


@contextmanager
def serving_in(workspace: Path) -> Iterator[Serving]:
    """What answers queries about the index in a folder."""
    settings = Settings(workspace=workspace, model="clip-mini")
    with Engine(settings) as engine:
        serving = Serving("query", engine, settings)
        try:
            yield serving
        finally:
            serving.close()


class AsgiClient:
    """Asks ``serving`` as somebody at ``address``, by default one on this machine."""

    def __init__(self, serving: Serving, address: str = "127.0.0.1") -> None:
        self._app = create_app(serving)
        self._address = address

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """The answer, read to its end."""

        async def asked() -> httpx2.Response:
            transport = httpx2.ASGITransport(self._app, client=(self._address, 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, **options)

        return asyncio.run(asked())

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """The answer to GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        """The answer to POST."""
        return self.request("POST", path, **options)
