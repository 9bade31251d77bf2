"""What went wrong in a page beside what a test looks at: errors in its console, requests to other hosts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

_OWN_HOSTS = {"127.0.0.1", "localhost"}
_LOCAL_SCHEMES = {"data", "blob", "about"}


class Watch:
    """Collects the console's errors, uncaught errors and foreign requests of all pages of a context."""

    def __init__(self, context: BrowserContext) -> None:
        self._seen: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("request", self._on_request)

    def expect(self, pattern: str) -> None:
        """One or more problems that match ``pattern`` (searched for) have to be seen, and are no failure.

        They read ``console: TEXT (URL)``, ``error: TEXT`` and ``request: URL``.
        """
        self._expected.append(re.compile(pattern))

    def problems(self) -> list[str]:
        """What was seen and not expected, then what was expected and not seen."""
        unexpected = [
            problem for problem in self._seen if not any(wanted.search(problem) for wanted in self._expected)
        ]
        never = [
            f"expected and not seen: {wanted.pattern}"
            for wanted in self._expected
            if not any(wanted.search(problem) for problem in self._seen)
        ]
        return unexpected + never

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._seen.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_error(self, error: WebError) -> None:
        self._seen.append(f"error: {error.error}")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in _LOCAL_SCHEMES and address.hostname not in _OWN_HOSTS:
            self._seen.append(f"request: {request.url}")
