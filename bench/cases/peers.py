"""``peers``: other projects' encoders with ViT-B/32, on one thread, beside ours."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench import inputs
from bench.harness import REPOSITORY, Contender, Options, Result, compared, in_turns, repeated
from bench.models import image_encoders, text_encoders, vit_name
from bench.peer_encoders import MARK
from bench.peer_models import hugging_face_folder, onnx_folder, torch_file
from crossmodal.errors import ServiceError

__all__ = ["run"]

_ITEMS = 32
_INSTALL_SECONDS = 600
_UNITS = {"photos": "images/s", "texts": "captions/s"}


@dataclass(frozen=True, slots=True)
class _Peer:
    """Another project: what to install, its model, and what it encodes."""

    requirements: tuple[str, ...]
    model: Callable[[Options], Path]
    kinds: tuple[str, ...] = ("photos", "texts")


_PEERS: Mapping[str, _Peer] = {
    "sentence-transformers": _Peer(("sentence-transformers==6.2.0", "torch==2.13.0"), hugging_face_folder),
    "fastembed": _Peer(("fastembed==0.9.1", "onnxruntime==1.31.1"), onnx_folder, ("photos",)),
    # Without the pins of what it leaves open, pip tries versions for more than half an hour.
    "clip-server": _Peer(
        (
            "clip-server==0.8.3",
            "jina==3.34.0",
            "torch==2.13.0",
            "torchvision==0.28.0",
            "opentelemetry-api==1.19.0",
            "opentelemetry-sdk==1.19.0",
            "setuptools==79.0.1",
        ),
        torch_file,
    ),
}


def run(options: Options) -> list[Result]:
    """Photos from files, and captions, to vectors; a peer that can't be run gives a row that says why."""
    items = {
        "photos": [str(path) for path in inputs.photo_files(options)[:_ITEMS]],
        "texts": inputs.captions(options, _ITEMS),
    }
    ours = {
        kind: repeated(partial(encode, items[kind]), len(items[kind]))
        for kind, encode in _ours(options).items()
    }
    results = []
    for name, peer in _PEERS.items():
        try:
            with _running(name, peer, options) as measure:
                contenders: dict[str, Contender] = {}
                for kind in peer.kinds:
                    contenders[f"ours, {kind}"] = ours[kind]
                    contenders[f"theirs, {kind}"] = partial(measure, kind, items[kind])
                rounds = in_turns(contenders, until=options.until(0.6))
        except ServiceError as error:
            results.append(Result(f"peers, {name}", None, "", note=f"not measured: {error}"))
            continue
        results += [
            compared(
                f"peers, {kind}, against {name}",
                _UNITS[kind],
                rounds[f"ours, {kind}"].rate(),
                peer.requirements[0].replace("==", " "),
                rounds[f"theirs, {kind}"].rate(),
            )
            for kind in peer.kinds
        ]
    return results


def _ours(options: Options) -> dict[str, Callable[[Sequence[str]], object]]:
    name = vit_name(options)
    (images,) = image_encoders(name, options, runtimes=("auto",)).values()
    (texts,) = text_encoders(name, options, runtimes=("auto",)).values()
    preprocessing = images.preprocessing

    def encode(paths: Sequence[str]) -> object:
        return images.encode(np.stack([preprocessing.model_input(Path(path).read_bytes()) for path in paths]))

    return {"photos": encode, "texts": texts.encode}


@contextmanager
def _running(name: str, peer: _Peer, options: Options) -> Iterator[Callable[[str, Sequence[str]], float]]:
    """A process of the peer; what measures the seconds that it needs for one item."""
    python = _environment(name, peer.requirements, options)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [str(python), "-m", "bench.peer_encoders", name, str(peer.model(options))],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin

        def read() -> float:
            for line in source:
                if line.startswith(MARK):
                    return float(line.removeprefix(MARK))
            log.seek(0)
            raise ServiceError((log.read().strip().splitlines() or ["it ended"])[-1])

        def measure(kind: str, items: Sequence[str]) -> float:
            print(json.dumps({kind: items}), file=sink, flush=True)
            return read() / len(items)

        try:
            read()
            yield measure
        finally:
            process.kill()


def _environment(name: str, requirements: Sequence[str], options: Options) -> Path:
    """The Python of an environment with ``requirements``, which is made if it does not exist.

    Raises ServiceError, with what pip said, where they can't be installed within ten minutes, and in a quick
    run where they aren't.
    """
    folder = options.workspace / "environments" / name
    python = folder / "bin" / "python"
    # Written last: an installation that was stopped begins again.
    installed = folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if installed.is_file() and installed.read_text(encoding="utf-8") == wanted:
        return python
    if options.quick:
        raise ServiceError("it isn't installed yet, which a run without --quick does")
    _install(sys.executable, "-m", "venv", "--clear", str(folder))
    _install(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    installed.write_text(wanted, encoding="utf-8")
    return python


def _install(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"pip found no versions that fit together in {_INSTALL_SECONDS} seconds") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr]
        raise ServiceError(errors[-1].strip())
