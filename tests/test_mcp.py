"""Agents search by the Model Context Protocol: the official client over stdio and HTTP, and hostile input."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from client_environments import ClientEnvironment, client_environment
from conftest import REPOSITORY, Server, clean_environment, copy_index, run_app, start_server
from PIL import Image
from test_metadata_privacy import described

from crossmodal import PhotoIndex, limits
from crossmodal.access.keys import KeyFile
from crossmodal.engine.engine import Engine
from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.server.mcp.calls import Answer, call
from crossmodal.server.mcp.tools import tools
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

# Reads one order from stdin: whom to ask and what, in each way that the protocol has of beginning.
CLIENT = """
import asyncio, json, sys
import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

async def ask(order, mode):
    command = order.get("command")
    if command:
        to = StdioServerParameters(command=command[0], args=command[1:], cwd=order["folder"])
    else:
        http = httpx2.AsyncClient(headers=order["headers"], timeout=60)
        to = streamable_http_client(order["url"], http_client=http)
    async with Client(to, mode=mode) as client:
        listed = [tool.model_dump(mode="json") for tool in (await client.list_tools()).tools]
        answers = []
        for name, arguments in order["calls"]:
            try:
                answers.append((await client.call_tool(name, arguments)).model_dump(mode="json"))
            except MCPError as error:
                answers.append({"refused": str(error)})
        return {"version": client.protocol_version, "tools": listed, "answers": answers}

async def main():
    order = json.load(sys.stdin)
    print(json.dumps([await ask(order, mode) for mode in order["modes"]]))

asyncio.run(main())
"""

SENTENCE = "a rocket on its launch pad"
COLOUR = {"tones": "colour"}
NEAR = {"location": {"$near": [48.86, 2.35], "$within_km": 5}}

# What is refused, and a part of the sentence that says why.
HOSTILE: list[tuple[str, Any, str]] = [
    ("search_photos", {}, "needs the argument 'text'"),
    ("search_photos", {"text": 3}, "The text is 3; it has to be a string"),
    ("search_photos", {"text": " "}, "needs at least one word"),
    ("search_photos", {"text": "x" * 3000}, "the limit is 2,000"),
    ("search_photos", {"text": "a", "top_k": 1001}, "a whole number from 1 to 1,000"),
    ("search_photos", {"text": "a", "top_k": "many"}, "'top_k' is 'many'"),
    ("search_photos", {"text": "a", "top_k": 10**400}, "more than 300 digits"),
    ("search_photos", {"text": "a", "offset": 999}, "offset + top_k is 1,009"),
    ("search_photos", {"text": "a", "min_score": 2}, "it has to lie in 0 to 1"),
    ("search_photos", {"text": "a", "filter": {"$where": 1}}, "$where"),
    ("search_photos", {"text": "a", "filter": {"a": {"$in": list(range(2000))}}}, "at most 1,000"),
    ("search_photos", {"text": "a", "image": "/etc/passwd"}, "'image' is no argument of search_photos"),
    ("search_captions", {"text": ["a"]}, "The text is a list"),
    ("find_similar", {"id": "no-such-id"}, "no-such-id"),
    ("find_similar", {"id": "x" * 600}, "the limit is 511"),
    ("find_similar", {"id": "../../etc/passwd"}, "../../etc/passwd"),
    ("describe_photo", {"id": "no-such-id"}, "There is no photo 'no-such-id' in the index"),
    ("describe_photo", {"id": None}, "The id is null"),
    ("list_facets", {"limit": 1}, "it takes none"),
]


@pytest.fixture(scope="module")
def sdk() -> ClientEnvironment:
    """The official SDK, client and server, before the packages that are here.

    It excludes jina, whose pydantic is older, and finds the newer one first.
    """
    (pinned,) = [
        line
        for line in (REPOSITORY / "requirements-mcp.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    made = client_environment(
        pinned,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        options=["--only-binary", ":all:"],
    )
    (site_packages,) = (made.folder / "lib").glob("python*/site-packages")
    (here,) = {path for path in sys.path if path.endswith("site-packages") and Path(path, "numpy").exists()}
    (site_packages / "here.pth").write_text(here + "\n", encoding="utf-8")
    return made


def program(sdk: ClientEnvironment) -> str:
    return str(sdk.folder / "bin" / "python")


def ask_by_client(sdk: ClientEnvironment, modes: tuple[str, ...], **order: Any) -> list[dict[str, Any]]:
    """What the official client got: in each mode the ``version``, the ``tools`` and the ``answers``."""
    done = subprocess.run(
        [program(sdk), "-c", CLIENT],
        input=json.dumps({"modes": modes, "folder": str(REPOSITORY), **order}),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answered: list[dict[str, Any]] = json.loads(done.stdout)
    return answered


@dataclass(frozen=True)
class Served:
    """A server in the environment of the SDK, which needs the key."""

    server: Server
    key: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/mcp"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="module")
def served(
    sdk: ClientEnvironment, toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    workspace = copy_index(toy_workspace, tmp_path_factory.mktemp("mcp") / "workspace")
    key = KeyFile(workspace).add("agent", "read")
    server = start_server("query_restful", "--workspace", workspace, python=program(sdk))
    yield Served(server, key)
    assert server.stop() == 0
    assert "Traceback" not in server.output()


@pytest.fixture(scope="module")
def ids(toy_workspace: Path) -> dict[str, str]:
    """A photo and a caption of the toy index."""
    with PhotoIndex(toy_workspace) as index:
        photo = index.search_text(SENTENCE, top_k=1)[0]
        return {"photo": photo.id, "caption": photo.captions[0].id}


@pytest.fixture(scope="module")
def calls(ids: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("search_photos", {"text": SENTENCE, "top_k": 3, "filter": COLOUR}),
        ("search_captions", {"text": SENTENCE, "top_k": 3, "explain": True}),
        ("find_similar", {"id": ids["photo"], "top_k": 3, "explain": True}),
        ("find_similar", {"id": ids["photo"], "top_k": 3, "modality": "text"}),
        ("describe_photo", {"id": ids["photo"]}),
        ("list_facets", {}),
        ("search_photos", {"text": SENTENCE, "top_k": 1000}),
        ("describe_photo", {"id": ids["caption"]}),
        ("no_such_tool", {}),
        *((tool, arguments) for tool, arguments, _ in HOSTILE),
        ("search_photos", {"text": SENTENCE, "top_k": 1}),
    ]


@pytest.fixture(scope="module", params=["stdio", "http"])
def answered(
    request: pytest.FixtureRequest,
    sdk: ClientEnvironment,
    toy_workspace: Path,
    calls: list[tuple[str, dict[str, Any]]],
) -> list[dict[str, Any]]:
    """What came of ``calls``, by the newest version of the protocol and by the one with a handshake."""
    if request.param == "stdio":
        command = [program(sdk), "app.py", "mcp", "--workspace", str(toy_workspace)]
        return ask_by_client(sdk, ("auto",), command=command, calls=calls)
    served: Served = request.getfixturevalue("served")
    return ask_by_client(sdk, ("auto", "legacy"), url=served.url, headers=served.headers, calls=calls)


def test_the_tools_are_listed_with_what_they_take_and_answer(answered: list[dict[str, Any]]) -> None:
    assert [one["version"] for one in answered] == ["2026-07-28", "2025-11-25"][: len(answered)]
    for one in answered:
        listed = {tool["name"]: tool for tool in one["tools"]}
        assert list(listed) == [
            *("search_photos", "search_captions", "find_similar", "describe_photo", "list_facets"),
        ]
        for tool in listed.values():
            assert tool["annotations"]["read_only_hint"] is True
            assert tool["input_schema"]["additionalProperties"] is False
            assert "$ref" not in json.dumps(tool)
        search = listed["search_photos"]["input_schema"]
        assert search["required"] == ["text"]
        assert search["properties"]["text"]["maxLength"] == limits.SENTENCE.most
        assert search["properties"]["top_k"]["maximum"] == limits.TOP_K.most
        assert {"id", "captions", "tags"} <= listed["describe_photo"]["output_schema"]["properties"].keys()


def test_answers_are_those_of_the_native_api(
    answered: list[dict[str, Any]], toy_server: Server, ids: dict[str, str]
) -> None:
    def found(**query: Any) -> Any:
        status, answer = toy_server.request("/v1/search", {"top_k": 3, **query})
        assert status == 200
        return answer["results"][0]

    expected = [
        found(text=SENTENCE, modality="image", filter=COLOUR),
        found(text=SENTENCE, modality="text", explain=True),
        found(id=ids["photo"], explain=True),
        found(id=ids["photo"], modality="text"),
        toy_server.request(f"/v1/documents/{ids['photo']}")[1],
        toy_server.request("/v1/tags")[1],
    ]
    assert expected[0]["matches"][0]["photo"]["file"] == "rocket.jpg"
    assert "rocket" in expected[1]["matches"][0]["text"]
    assert all(match["explanation"]["terms"] for each in expected[1:3] for match in each["matches"])
    for one in answered:
        for answer, value in zip(one["answers"], expected, strict=False):
            assert answer["is_error"] is False
            assert answer["structured_content"] == value
            # For clients that know no structured content.
            assert json.loads(answer["content"][0]["text"]) == value
        assert len(one["answers"][6]["structured_content"]["matches"]) == 15


def test_a_described_photo_comes_with_a_picture_of_it(
    answered: list[dict[str, Any]], toy_workspace: Path, ids: dict[str, str]
) -> None:
    with PhotoIndex(toy_workspace) as index:
        thumbnail = index.thumbnail(ids["photo"])
    for one in answered:
        _, picture = one["answers"][4]["content"]
        assert (picture["type"], picture["mime_type"]) == ("image", "image/jpeg")
        content = base64.b64decode(picture["data"])
        assert content == thumbnail
        with Image.open(BytesIO(content)) as opened:
            opened.load()
            assert max(opened.size) <= 256


def test_what_cannot_be_used_is_told_to_the_agent_and_the_next_call_is_answered(
    answered: list[dict[str, Any]], ids: dict[str, str]
) -> None:
    for one in answered:
        caption, unknown, *hostile, last = one["answers"][7:]
        assert caption["is_error"] is True
        assert f"is a caption, and describes the photo '{ids['photo']}'" in caption["content"][0]["text"]
        assert "There is no tool 'no_such_tool'; there are search_photos, " in unknown["refused"]
        for answer, (_, _, sentence) in zip(hostile, HOSTILE, strict=True):
            assert answer["is_error"] is True, sentence
            (said,) = answer["content"]
            assert sentence in said["text"]
        assert last["structured_content"]["matches"][0]["photo"]["file"] == "rocket.jpg"


def line(method: str, id: int | None = 1, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": params, **({} if id is None else {"id": id})}
    return json.dumps(message).encode() + b"\n"


HELLO = line(
    "initialize", 1, protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "x", "version": "1"}
) + line("notifications/initialized", None)


def start_stdio(sdk: ClientEnvironment, workspace: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program(sdk), "app.py", "mcp", "--workspace", str(workspace)],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_only_the_protocol_comes_from_stdout_and_the_end_of_stdin_is_the_end(
    sdk: ClientEnvironment, toy_workspace: Path
) -> None:
    search = {"name": "search_photos", "arguments": {"text": SENTENCE, "top_k": 1}}
    sent = [
        b"\xff garbage\n",
        b"[" * 100_000 + b"\n",
        b"\n",
        b'{"a": 1}\n',
        b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "\\ud800"}}\n',
        b"x" * (limits.MCP_MESSAGE.most + 10) + b"\n",
        HELLO,
        line("no/such/method", 2),
        line("tools/call", 3, name=3),
        # Its answer comes although the pipe ends with the request, and without the last line feed.
        line("tools/call", 4, **search).rstrip(),
    ]
    process = start_stdio(sdk, toy_workspace)
    said, logged = process.communicate(b"".join(sent), timeout=60)
    assert process.returncode == 0, logged
    messages = [json.loads(text) for text in said.splitlines()]
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    refused = [message["error"]["code"] for message in messages if message["id"] is None]
    assert refused == [-32700, -32700, -32600, -32700, -32600]
    assert "the limit is 4 MiB" in said.decode()
    answers = {message["id"]: message for message in messages if message["id"] is not None}
    assert answers[1]["result"]["serverInfo"]["name"] == "crossmodal"
    assert answers[2]["error"]["code"] == -32601
    assert answers[3]["error"]["code"] == -32602
    (match,) = answers[4]["result"]["structuredContent"]["matches"]
    assert match["photo"]["file"] == "rocket.jpg"
    assert b"Answering an agent" in logged
    assert b"Traceback" not in logged


def test_ctrl_c_ends_it_while_stdin_is_open(sdk: ClientEnvironment, toy_workspace: Path) -> None:
    with start_stdio(sdk, toy_workspace) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # Messages are on their way when it comes.
        process.stdin.write(HELLO + 300 * line("notifications/unknown", None))
        process.stdin.flush()
        assert b"serverInfo" in process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130, said
        assert said.splitlines()[-1] == b"stopped"
        assert process.stdout.read() == b""


def test_a_missing_index_is_told_in_a_sentence(sdk: ClientEnvironment, tmp_path: Path) -> None:
    said, logged = start_stdio(sdk, tmp_path / "nothing").communicate(HELLO, timeout=60)
    assert said == b""
    assert logged.startswith(b"error: There is no index in ")
    assert logged.count(b"\n") == 1


def test_over_http_it_needs_the_keys_and_keeps_the_secrets_of_the_native_api(served: Served) -> None:
    ping = line("tools/list", 1)
    assert served.server.request("/mcp", ping)[0] == 401
    headers = {**served.headers, "Accept": "application/json, text/event-stream"}
    status, answer = served.server.request("/mcp", ping, headers=headers)
    assert status == 200
    assert len(answer["result"]["tools"]) == 5
    status, _ = served.server.request("/mcp", ping, headers={**headers, "Origin": "http://evil.example"})
    assert status == 403
    # Who sits at this machine sees where photos were taken; whom a proxy hands on doesn't.
    near = line("tools/call", name="search_photos", arguments={"text": "a tower", "filter": NEAR})
    _, here = served.server.request("/mcp", near, headers=headers)
    assert "isError" not in here["result"] or not here["result"]["isError"]
    elsewhere = {**headers, "X-Forwarded-For": "203.0.113.7"}
    _, refused = served.server.request("/mcp", near, headers=elsewhere)
    assert refused["result"]["isError"] is True
    assert "Where photos were taken is for" in refused["result"]["content"][0]["text"]


def test_no_body_over_http_is_answered_with_a_failure_of_the_server(served: Served) -> None:
    headers = {**served.headers, "Accept": "application/json, text/event-stream"}
    modern = {**headers, "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
    search = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_photos","arguments":%s}}'
    )
    bodies = [
        *(b"", b"\xff\xfe{", b"[" * 100_000, b"9" * 5000, b"[]", b"null", b'{"jsonrpc":"2.0"}'),
        *(search % arguments for arguments in (b"[1]", b'"x"', b'{"text":"\\ud800"}', b'{"text":NaN}')),
        search % (b'{"text":"a","filter":' + b'{"$and":[' * 3000 + b"1" + b"]}" * 3000 + b"}"),
        search % (b'{"text":"a","filter":' + b'{"$and":[' * 60 + b"1" + b"]}" * 60 + b"}"),
        b'{"jsonrpc":"2.0","id":"\\ud800","method":"\\ud800","params":{"name":"\\ud800"}}',
    ]
    for body in bodies:
        for sent in (headers, modern):
            status, _ = served.server.request("/mcp", body, headers=sent)
            assert status in (200, 400), body[:100]
    status, answer = served.server.request(
        "/mcp", search % json.dumps({"text": SENTENCE, "top_k": 1}).encode(), headers=headers
    )
    assert status == 200
    assert answer["result"]["structuredContent"]["matches"][0]["photo"]["file"] == "rocket.jpg"
    status, refused = served.server.request("/mcp", headers=headers)
    assert status == 405
    assert "GET /mcp is not served here" in refused["detail"]


@dataclass
class OneIndex:
    """An index as tools ask it."""

    engine: Engine

    @property
    def workspace(self) -> Workspace:
        return self.engine.workspace

    async def search(self, request: SearchRequest) -> SearchOutcome:
        return self.engine.search([request])[0][0]


def test_tools_that_hide_places_tell_none(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "tower.jpg").write_bytes(described("JPEG"))
    with PhotoIndex(tmp_path / "workspace") as index:
        assert index.add(photos).added >= 1
        (photo,) = index.page()
    assert "latitude" in photo.all_tags
    with Engine(Settings(workspace=tmp_path / "workspace")) as engine:

        def answer(name: str, *, hidden: bool, **arguments: Any) -> Answer:
            return asyncio.run(call(tools()[name], arguments, OneIndex(engine), hidden=hidden))

        for name, arguments in (
            ("search_photos", {"text": "a tower"}),
            ("describe_photo", {"id": photo.id}),
            ("list_facets", {}),
        ):
            assert "latitude" in json.dumps(answer(name, hidden=False, **arguments).value)
            told = json.dumps(answer(name, hidden=True, **arguments).value)
            assert "latitude" not in told
            assert "tower.jpg" in told
        for telling in ({"filter": NEAR}, {"sort": "latitude"}):
            with pytest.raises(RequestError, match="Where photos were taken is for"):
                answer("search_photos", hidden=True, text="a tower", **telling)
            with pytest.raises(CrossmodalError):
                answer("find_similar", hidden=True, id=photo.id, **telling)


@pytest.mark.skipif(find_spec("mcp") is not None, reason="the SDK is installed here")
def test_without_the_sdk_one_sentence_says_what_to_install(toy_workspace: Path, toy_server: Server) -> None:
    apart = "in an environment without the extra jina" if find_spec("jina") is not None else ""
    done = run_app("mcp", "--workspace", toy_workspace)
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: crossmodal mcp needs the MCP SDK: pip install")
    assert "crossmodal-search[mcp]" in sentence
    assert apart in sentence
    status, refused = toy_server.request("/mcp", line("tools/list"))
    assert status == 404
    assert refused["detail"] == sentence.removeprefix("error: ").replace("crossmodal mcp", "/mcp", 1)
