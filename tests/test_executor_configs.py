"""Every executor's ``config.yml`` is one that jina itself loads and serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY, clean_environment, free_port
from needs_jina import needs_jina

from crossmodal.jina.launch import TOKEN_FILE

pytestmark = needs_jina

CONFIGS = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "executors").glob("*/config.yml"))
MODEL = {"model": "vse", "model_cache": "CACHE"}
STORE = {**MODEL, "index_path": "INDEX", "writable": True}
# What the Flows' YAML says of each.
USES_WITH = {
    "image_encoder": MODEL,
    "image_kv_indexer": STORE,
    "image_loader": {**MODEL, "max_pixels": 1000},
    "image_normalizer": MODEL,
    "image_vector_indexer": STORE,
    "committer": {**MODEL, "index_path": "INDEX"},
    "joiner": {},
    "reranker": {"rerank": "", "index_path": "INDEX", "model_cache": "CACHE", "max_pixels": 1000},
    "text_encoder": MODEL,
    "text_indexer": STORE,
}


def environment() -> dict[str, str]:
    return {**clean_environment(), "PYTHONPATH": str(REPOSITORY), "JINA_OPTOUT_TELEMETRY": "1"}


def test_jina_loads_every_config(tmp_path: Path) -> None:
    uses_with = json.dumps(USES_WITH).replace("INDEX", str(tmp_path / "index"))
    uses_with = uses_with.replace("CACHE", str(tmp_path))
    script = (
        "import json, sys\n"
        "from jina import Executor\n"
        "loaded = {}\n"
        "options = json.loads(sys.argv[1])\n"
        "for config in sys.argv[2:]:\n"
        "    name = config.split('/')[-2]\n"
        "    executor = Executor.load_config(config, uses_with=options[name])\n"
        "    loaded[executor.metas.name] = sorted(name for name in executor.requests if name[0] == '/')\n"
        "    executor.close()\n"
        "print(json.dumps(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, uses_with, *map(str, CONFIGS)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == {
        path.parent.name: [
            *("/delete", "/encode", "/forget", "/index", "/rerank", "/search", "/status", "/update")
        ]
        for path in CONFIGS
    }


def test_the_command_of_jina_serves_one_to_who_has_its_token(tmp_path: Path) -> None:
    port = free_port()
    secret = tmp_path / "token"
    secret.write_text("a1" * 32)
    command = Path(sys.executable).with_name("jina")
    process = subprocess.Popen(
        [
            *(command, "executor", "--uses", "executors/image_loader/config.yml"),
            *("--host", "127.0.0.1", "--port", str(port), "--uses-with", "max_pixels:1000"),
            *("model:vse", f"model_cache:{tmp_path}"),
        ],
        cwd=REPOSITORY,
        env={**environment(), TOKEN_FILE: str(secret)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        script = (
            "import sys, time; from docarray import DocList; from jina import Client\n"
            "from crossmodal.jina.documents import MediaDocument\n"
            "def ask(token):\n"
            "    docs = DocList[MediaDocument]([MediaDocument(modality='image', blob=b'letter')])\n"
            "    metadata = (('crossmodal-token', token),)\n"
            "    client = Client(port=int(sys.argv[1]))\n"
            "    return client.post('/search', docs, return_type=type(docs), metadata=metadata)[0].error\n"
            "deadline = time.monotonic() + 150\n"
            "while True:\n"
            "    try: print(ask(sys.argv[2])); break\n"
            "    except Exception:\n"
            "        if time.monotonic() > deadline: raise\n"
            "        time.sleep(0.5)\n"
            "ask(sys.argv[3])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(port), secret.read_text(), "b2" * 32],
            cwd=REPOSITORY,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "not an image" in done.stdout, done.stderr
        assert "UNAUTHENTICATED" in done.stderr
    finally:
        # jina's command ends without the process that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
