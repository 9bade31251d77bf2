"""Every curl command of the README and of the API's page, run by a shell against a real server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Server, server_over_copy

PAGES = ("README.md", "docs/api.md")
COMMANDS = {
    page: re.findall(r"^curl .*$", (REPOSITORY / page).read_text(encoding="utf-8"), re.MULTILINE)
    for page in PAGES
}


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a copy of the toy index, as the commands write too."""
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("curl")) as served:
        yield served


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_answered(server: Server, page: str) -> None:
    assert len(COMMANDS[page]) >= 3
    added = "ID"
    for command in COMMANDS[page]:
        line = command.replace("http://localhost:45678", server.url).replace("/ID", f"/{added}")
        done = subprocess.run(
            [*("bash", "-c"), f"{line} -sS -w '\n%{{http_code}}'"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        assert status == "200", (command, body)
        answer = json.loads(body)
        assert something_in(answer), (command, answer)
        if "/v1/documents" in command and "results" in answer:
            added = answer["results"][0]["id"]


def something_in(answer: dict[str, Any]) -> bool:
    """Whether an answer of any shape tells of at least one document, and of no error."""
    if "results" in answer and "added" in answer:
        return answer["failed"] == 0 and answer["added"] + answer["unchanged"] + answer["replaced"] > 0
    if "results" in answer:
        return all(result["matches"] and not result["error"] for result in answer["results"])
    if "deleted" in answer:
        return len(answer["deleted"]) > 0
    if "search" in answer:
        return all(doc["matches"] for doc in answer["search"]["docs"]) and answer["status"] == {}
    docs = answer["data"]
    return bool(docs) and all("error" not in doc.get("tags", {}) for doc in docs)
