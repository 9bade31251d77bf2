"""The ports of a Flow of jina's processes: on this machine alone, and closed without the token of the run."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import TOY_IMAGES, children_of, free_port, run_python
from needs_jina import skip_module_without_jina

skip_module_without_jina()

from crossmodal.documents import Document  # noqa: E402
from crossmodal.errors import DeadlinePassed, ServiceError  # noqa: E402
from crossmodal.flow.topology import flow_file, read_topology  # noqa: E402
from crossmodal.jina import pods  # noqa: E402
from crossmodal.jina.launch import RUN_TOKEN, TOKEN_FILE, TOKEN_KEY  # noqa: E402
from crossmodal.jina.placement import require_private  # noqa: E402
from crossmodal.jina.pods import PodsFlow, open_pods  # noqa: E402
from crossmodal.records import Record  # noqa: E402
from crossmodal.server.routes import problem_of  # noqa: E402
from crossmodal.settings import Settings  # noqa: E402


@dataclass
class RunningFlow:
    """An index Flow, its processes, where they listen, and the token of the run."""

    flow: PodsFlow
    workspace: Path
    pids: list[int]
    ports: dict[int, str]
    token: str


def opened(pid: int) -> list[str]:
    """What a process has open."""
    found: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


def listening(pids: list[int]) -> dict[int, str]:
    """The ports that any of these processes listens on, and at which address (in hexadecimal)."""
    held: set[str] = set()
    for pid in pids:
        held |= {name.removeprefix("socket:[").removesuffix("]") for name in opened(pid)}
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in held:
                address, port = columns[1].split(":")
                found[int(port, 16)] = address
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFlow]:
    workspace = tmp_path_factory.mktemp("ports") / "index"
    before = set(children_of(os.getpid()))
    with pytest.MonkeyPatch.context() as patch:
        # As in a container under another user's number: jina would make folders there.
        patch.setenv("HOME", "/proc/nowhere")
        flow = open_pods("index", Settings(workspace=workspace, model="vse", shards=1, layout="pods"))
    with flow:
        pids = [pid for pid in children_of(os.getpid()) if pid not in before]
        environment = Path(f"/proc/{pids[0]}/environ").read_bytes().split(b"\0")
        (token,) = (line.split(b"=", 1)[1].decode() for line in environment if RUN_TOKEN.encode() in line)
        for pid in pids:
            assert token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        yield RunningFlow(flow, workspace, pids, listening(pids), token)


def photo(**fields: Any) -> Any:
    """A photo to index, as a message."""
    from crossmodal.jina.documents import MediaDocument

    content = (TOY_IMAGES / "coffee.jpg").read_bytes()
    return MediaDocument(**{"modality": "image", "blob": content, "content_hash": "0" * 32, **fields})


def post(port: int, endpoint: str, token: str | None, *messages: Any) -> list[Any]:
    """What a client gets from one of the Flow's processes."""
    from docarray import DocList
    from jina import Client

    from crossmodal.jina.documents import MediaDocument

    client = Client(host="127.0.0.1", port=port, protocol="grpc")
    return list(
        client.post(
            endpoint,
            DocList[MediaDocument](messages),
            return_type=DocList[MediaDocument],
            metadata=() if token is None else ((TOKEN_KEY, token),),
            stream=False,
        )
    )


def stored(workspace: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(workspace / "index.sqlite")) as index:
        return list(index.execute("SELECT id, uri FROM documents ORDER BY id"))


def test_every_port_is_of_this_machine_alone(running: RunningFlow) -> None:
    # One of each of the eight steps, and the gateway's.
    assert len(running.ports) >= 9
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert set(running.ports.values()) <= loopback


@pytest.mark.parametrize("token", [None, "", "wrong", "x" * 43])
def test_without_the_token_nothing_is_written_or_told(running: RunningFlow, token: str | None) -> None:
    import grpc
    from jina.proto import jina_pb2, jina_pb2_grpc

    victim = running.workspace / "precious"
    victim.write_text("kept")
    nothing = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
    metadata = () if token is None else ((TOKEN_KEY, token),)
    hostile = photo(id="intruder", uri="/etc/passwd", mime_type="text/html")
    for port in running.ports:
        with pytest.raises(Exception, match=r"UNAUTHENTICATED|brings no crossmodal-token"):
            post(port, "/index", token, hostile)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            # jina deletes the file that it has "restored" from.
            restore = jina_pb2_grpc.JinaExecutorRestoreStub(channel).restore
            command = jina_pb2.RestoreSnapshotCommand(snapshot_file=str(victim))
            calls = [(restore, command)]
            calls.append((jina_pb2_grpc.JinaInfoRPCStub(channel)._status, nothing))
            calls.append((jina_pb2_grpc.JinaDiscoverEndpointsRPCStub(channel).endpoint_discovery, nothing))
            calls.append((jina_pb2_grpc.JinaGatewayDryRunRPCStub(channel).dry_run, nothing))
            for call, message in calls:
                with pytest.raises(grpc.RpcError) as raised:
                    call(message, metadata=metadata, timeout=20)
                assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert victim.read_text() == "kept"
    assert "intruder" not in [id for id, _ in stored(running.workspace)]


def test_a_document_is_checked_by_the_process_that_it_enters(running: RunningFlow) -> None:
    """Also one that comes with the token, to a step in the middle, past the gateway."""
    hostile = photo(id="page", uri="/etc/passwd", mime_type="text/html")
    for port in running.ports:
        (answer,) = post(port, "/index", running.token, hostile)
        assert "The field mime_type of the document 'page' is 'text/html'" in str(answer.error)
    vector = np.array([np.nan] * 512, np.float32)
    (answer,) = post(next(iter(running.ports)), "/index", running.token, photo(id="page", embedding=vector))
    assert "embedding of the document 'page' has what is not a finite number" in str(answer.error)
    assert "page" not in [id for id, _ in stored(running.workspace)]


def test_the_run_itself_goes_on(running: RunningFlow) -> None:
    content = (TOY_IMAGES / "coffee.jpg").read_bytes()
    record = Record("own", "image", uri="/photos/coffee.jpg", mime_type="image/jpeg", content=content)
    (doc,) = running.flow.run("index", [Document.of_record(record.hashed())])
    assert (doc.error, doc.outcome) == (None, "added")
    assert stored(running.workspace) == [("own", "/photos/coffee.jpg")]


def test_a_process_that_is_stopped_holds_a_request_no_longer_than_its_deadline(
    running: RunningFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = str(running.workspace / "writer.lock")
    (committer,) = (pid for pid in running.pids if lock in opened(pid))
    doc = Document("stuck", "text", text="words", record=Record("stuck", "text", text="words").hashed())
    with monkeypatch.context() as patch:
        patch.setattr(pods, "_ANSWER_SECONDS", 2.0)
        patch.setattr(pods, "_DOCUMENT_SECONDS", 1.0)
        os.kill(committer, signal.SIGSTOP)
        try:
            with pytest.raises(DeadlinePassed, match="did not answer within 3 seconds; one of its processes"):
                running.flow.run("index", [doc])
        finally:
            os.kill(committer, signal.SIGCONT)
    assert problem_of(DeadlinePassed("Stuck."))["status"] == 504
    # The process goes on with what it has got, and answers again.
    (again,) = running.flow.run("index", [replace(doc)])
    assert again.error is None
    assert "stuck" in [id for id, _ in stored(running.workspace)]


def test_jina_is_imported_without_a_home_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os; from crossmodal.jina.launch import import_jina\n"
        "print(import_jina().__version__, os.environ['HOME'])"
    )
    given = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path), "PYTHONPATH": "."}
    done = run_python("-c", script, environment=given)
    assert done.stdout.split()[1:] == ["/proc/nowhere"], done.stderr
    assert list(tmp_path.iterdir()) == []


def edited(folder: Path, **placing: Any) -> Path:
    """A copy of the query Flow in which the text encoder runs elsewhere."""
    described = yaml.safe_load(flow_file("query").read_text(encoding="utf-8"))
    (entry,) = (entry for entry in described["executors"] if entry["name"] == "text_encoder")
    del entry["host"]
    entry.update(placing)
    path = folder / "flow.yml"
    path.write_text(yaml.safe_dump(described), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("placing", "said"),
    [
        (
            {},
            "says no host, so it would listen everywhere; a step that this run starts needs host: 127.0.0.1",
        ),
        ({"host": "0.0.0.0"}, "says host: 0.0.0.0; a step that this run starts needs host: 127.0.0.1"),
        ({"host": ["127.0.0.1", "10.0.0.7"]}, "says host: 127.0.0.1, 10.0.0.7; a step that this run starts"),
        (
            {"host": "127.0.0.1", "protocol": "http"},
            "says protocol: http; the processes of a Flow speak grpc",
        ),
        ({"external": True}, "is external and says no host; it needs its address"),
        ({"external": True, "host": "10.0.0.7", "tls": True}, "is external at 10.0.0.7 without a port"),
        ({"external": True, "host": "10.0.0.7", "port": 5000}, "is external at 10.0.0.7 without TLS"),
        ({"external": True, "host": "grpc://a.example:5000"}, "is external at grpc://a.example:5000 without"),
        (
            {"external": True, "host": "a.example", "port": 5000, "tls": True, "shards": 2},
            "is external with 2 shards and 1 hosts; list a host for each.",
        ),
        (
            {"external": True, "host": "a.example", "port": 5000, "tls": True},
            f"is external, which takes a token that both sides share: set {TOKEN_FILE}",
        ),
    ],
)
def test_a_step_that_others_could_reach_is_refused(
    tmp_path: Path, placing: dict[str, Any], said: str
) -> None:
    path = edited(tmp_path, **placing)
    with pytest.raises(ServiceError) as raised:
        PodsFlow("query", path, Settings(workspace=tmp_path / "index").flow_environment())
    assert str(raised.value).startswith(f"{path}: text_encoder {said}")


def test_an_external_step_takes_tls_and_a_token_of_some_length(tmp_path: Path) -> None:
    variables = Settings(workspace=tmp_path / "index").flow_environment()
    secret = tmp_path / "token"
    for placing in (
        {"host": "a.example", "port": 5000, "tls": True},
        {"host": ["grpcs://a.example:5000", "grpcs://b.example:5000"]},
    ):
        path = edited(tmp_path, external=True, **placing)
        topology = read_topology(path, variables)
        secret.write_text("short\n")
        with pytest.raises(ServiceError, match="holds 5 characters; a token is one line of at least 32"):
            require_private(path, topology, {TOKEN_FILE: str(secret)})
        secret.write_text("a1" * 32 + "\n")
        require_private(path, topology, {TOKEN_FILE: str(secret)})
    with pytest.raises(ServiceError, match=r"names .*gone, which cannot be read"):
        require_private(path, topology, {TOKEN_FILE: str(tmp_path / "gone")})


ALONE = """
import asyncio, sys
import grpc
from crossmodal.jina.run_token import guard_grpc
guard_grpc()
guard_grpc()


async def serve():
    grpc.aio.server().add_insecure_port(sys.argv[1])


asyncio.run(serve())
"""


def test_an_executor_alone_needs_a_token_and_no_open_port(tmp_path: Path) -> None:
    """Whatever starts it, such as jina's own command on another host."""
    secret = tmp_path / "token"
    secret.write_text("a1" * 32)
    port = free_port()
    given = {TOKEN_FILE: str(secret), "PYTHONPATH": "."}
    done = run_python("-c", ALONE, f"127.0.0.1:{port}", environment=given)
    assert done.returncode == 0, done.stderr
    done = run_python("-c", ALONE, f"0.0.0.0:{port}", environment=given)
    assert f"does not listen on 0.0.0.0:{port} without TLS; listen on 127.0.0.1" in done.stderr
    done = run_python("-c", ALONE, f"127.0.0.1:{port}", environment={"PYTHONPATH": "."})
    assert f"takes no calls without a token: set {TOKEN_FILE}" in done.stderr
