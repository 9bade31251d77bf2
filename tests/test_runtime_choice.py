"""The fastest faithful form is chosen, what was measured is remembered, compiled networks are cached."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xxhash

from crossmodal.errors import ModelError
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.models.runtimes import networks
from crossmodal.models.runtimes.choice import Candidate, Memory, centred_cosine, choose
from crossmodal.models.runtimes.forms import ONNX_F32, OPENVINO_F32, TORCH_F32, Form
from crossmodal.models.runtimes.graph import Graph
from crossmodal.models.runtimes.networks import CacheEntry, open_network

Floats = npt.NDArray[np.float32]
PROBES = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)


class Encoder:
    """Returns its items, moved by ``error``; one of infinity cannot compute."""

    def __init__(self, name: str, error: float) -> None:
        self.name = name
        self._error = error

    def encode(self, items: Floats, /) -> Floats:
        if self._error == np.inf:
            raise RuntimeError("not implemented for BFloat16")
        moved = items + self._error * np.random.default_rng(1).normal(size=items.shape)
        return moved.astype(np.float32)


class Tower:
    """Candidates of which it is counted how often each is loaded."""

    def __init__(self, folder: Path, **errors: float | Exception) -> None:
        self.loaded: list[str] = []
        self.folder = folder
        self.forms = {"openvino": OPENVINO_F32, "onnx": ONNX_F32, "plain": TORCH_F32}
        self._errors = {"plain": 0.0, **errors}

    def choose(self, runtime: str = "auto", *, files: tuple[Path, ...] | None = None) -> Encoder:
        files = files or (self.folder / "runtimes.json",)
        candidates = [self._candidate(name) for name in ("openvino", "onnx") if name in self._errors]
        return choose(
            runtime,
            candidates,
            self._candidate("plain"),
            probes=lambda: PROBES,
            memory=Memory("text", "0123", files, files),
        )

    def _candidate(self, name: str) -> Candidate[Encoder]:
        def load() -> Encoder:
            self.loaded.append(name)
            error = self._errors[name]
            if isinstance(error, Exception):
                raise error
            return Encoder(name, error)

        return Candidate(self.forms[name], load)


def test_the_first_faithful_one_is_chosen_and_measured_once(tmp_path: Path) -> None:
    tower = Tower(tmp_path, openvino=0.5, onnx=1e-4)
    assert tower.choose().name == "onnx"
    assert tower.loaded == ["openvino", "plain", "onnx"]
    again = Tower(tmp_path, openvino=0.5, onnx=1e-4)
    assert again.choose().name == "onnx"
    assert again.loaded == ["onnx"]
    measured = json.loads((tmp_path / "runtimes.json").read_text(encoding="utf-8"))
    cosines = {key.split(": ")[1].split(",")[0]: value for key, value in measured.items()}
    assert cosines["openvino f32"] < 0.999 < cosines["onnx f32"]
    assert all(key.startswith("0123 text: ") for key in measured)


def test_the_plain_one_is_the_last_and_needs_no_measurement(tmp_path: Path) -> None:
    tower = Tower(tmp_path, openvino=0.5, onnx=0.5)
    assert tower.choose().name == "plain"
    plain = Tower(tmp_path)
    assert plain.choose().name == "plain"
    assert plain.loaded == ["plain"]


def test_the_plain_one_can_be_named(tmp_path: Path) -> None:
    tower = Tower(tmp_path, openvino=0.0, onnx=0.0)
    assert tower.choose("torch").name == "plain"
    assert tower.loaded == ["plain"]


def test_one_that_is_named_is_taken_or_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = Tower(tmp_path, openvino=0.5, onnx=0.0)
    assert tower.choose("onnx").name == "onnx"
    with pytest.raises(
        ModelError, match=r"--runtime openvino \(openvino f32: its vectors differ.* 0\.999 is the"
    ):
        tower.choose("openvino")
    with pytest.raises(ModelError, match=r"--runtime tensorrt \(it has no such form\)"):
        tower.choose("tensorrt")
    monkeypatch.setattr(Form, "package", property(lambda form: "nosuchpackage"))
    with pytest.raises(ModelError, match=r"--runtime onnx \(onnx f32: nosuchpackage is not installed\)"):
        tower.choose("onnx")


def test_the_registry_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    for load in (load_image_encoder, load_text_encoder):
        with pytest.raises(ModelError, match="tower cannot be computed with --runtime tpu"):
            load("vse", runtime="tpu", cache=tmp_path)


def test_one_that_cannot_be_loaded_is_passed_over_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tower = Tower(tmp_path, openvino=RuntimeError("no such operator"), onnx=0.0)
    with caplog.at_level(logging.WARNING):
        assert tower.choose().name == "onnx"
    assert "openvino f32: it cannot compute the network: no such operator" in caplog.text
    with pytest.raises(ModelError, match="no such operator"):
        tower.choose("openvino")


def test_one_that_cannot_compute_the_probes_is_passed_over_as_well(tmp_path: Path) -> None:
    tower = Tower(tmp_path, openvino=np.inf, onnx=0.0)
    assert tower.choose().name == "onnx"
    assert tower.loaded == ["openvino", "onnx", "plain"]
    with pytest.raises(ModelError, match="not implemented for BFloat16"):
        tower.choose("openvino")


def test_files_are_read_in_turn_and_the_first_that_can_be_is_written(tmp_path: Path) -> None:
    damaged, blocked = tmp_path / "damaged.json", tmp_path / "file" / "runtimes.json"
    damaged.write_text("[1", encoding="utf-8")
    blocked.parent.write_text("a file where a folder should be", encoding="utf-8")
    kept = tmp_path / "deep" / "runtimes.json"
    memory = Memory("image", "ab", (damaged, blocked, kept), (blocked, kept))
    assert memory.cosine(ONNX_F32) is None
    memory.remember(ONNX_F32, 0.99951234567)
    assert memory.cosine(ONNX_F32) == 0.999512
    assert memory.cosine(OPENVINO_F32) is None
    for other in (Memory("text", "ab", (kept,), ()), Memory("image", "cd", (kept,), ())):
        assert other.cosine(ONNX_F32) is None
    assert list(json.loads(kept.read_text(encoding="utf-8")).values()) == [0.999512]


def test_a_vector_that_is_not_a_number_is_not_faithful() -> None:
    broken = PROBES.copy()
    broken[2] = np.nan
    assert centred_cosine(broken, PROBES) == -1
    assert centred_cosine(PROBES, PROBES) == pytest.approx(1)
    # All alike beside a large common part: only centring tells them apart.
    shuffled = PROBES[::-1] + 100
    assert centred_cosine(shuffled, PROBES + 100) < 0.5


def doubling(factor: float, calls: list[float]) -> Callable[[], bytes]:
    def build() -> bytes:
        calls.append(factor)
        graph = Graph()
        x = graph.input("x", np.float32, ("n", 4))
        graph.output(graph.multiply(x, graph.number(factor)), "y", ("n", 4))
        return graph.serialize()

    return build


def run(build: Callable[[], bytes], cached: CacheEntry) -> Any:
    return open_network(OPENVINO_F32, build, threads=1, cached=cached).run(np.ones((2, 4), np.float32))


def test_a_compiled_network_is_read_again_unless_its_graph_changed(tmp_path: Path) -> None:
    calls: list[float] = []
    for _ in range(2):
        assert run(doubling(2, calls), CacheEntry(tmp_path, "net", "one")).tolist() == [[2.0] * 4] * 2
    assert calls == [2]
    assert run(doubling(3, calls), CacheEntry(tmp_path, "net", "two")).tolist() == [[3.0] * 4] * 2
    assert calls == [2, 3]


@pytest.mark.parametrize(
    ("damage", "why"),
    [("cut", "its checksum is wrong"), ("flipped", "its checksum is wrong"), ("empty", "an empty file")],
)
def test_a_damaged_compiled_network_is_compiled_again_with_a_warning(
    damage: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []
    keep = CacheEntry(tmp_path, "net", "one")
    run(doubling(2, calls), keep)
    (path,) = tmp_path.glob("*.openvino")
    content = path.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    path.write_bytes({"cut": content[:-9], "flipped": flipped, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert run(doubling(2, calls), keep).tolist() == [[2.0] * 4] * 2
    assert re.search(f"cannot be used and is compiled again: .*{why}", caplog.text)
    assert path.read_bytes()[100:] == content[100:]
    assert calls == [2, 2]


def test_why_a_whole_network_cannot_be_used_is_logged_on_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []
    keep = CacheEntry(tmp_path, "net", "one")
    run(doubling(2, calls), keep)
    (path,) = tmp_path.glob("*.openvino")
    # As of another version of OpenVINO.
    content = bytes(1000)
    path.write_bytes(xxhash.xxh3_128_digest(content) + content)
    with caplog.at_level(logging.WARNING):
        run(doubling(2, calls), keep)
    (message,) = caplog.messages
    assert "cannot be used and is compiled again" in message
    assert "\n" not in message
    assert calls == [2, 2]


def test_compiled_networks_take_a_bounded_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    run(doubling(9, calls), CacheEntry(tmp_path, "a", ""))
    (first,) = tmp_path.iterdir()
    monkeypatch.setattr(networks, "_CACHED_BYTES", 7 * first.stat().st_size // 2)
    for number, name in enumerate("bcd", start=2):
        run(doubling(number, calls), CacheEntry(tmp_path, name, ""))
        if name == "c":
            # Used again, so that "b" is the oldest.
            os.utime(first, (1, 1))
            os.utime(next(tmp_path.glob("b-*")), (0, 0))
            run(doubling(9, calls), CacheEntry(tmp_path, "a", ""))
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["a", "c", "d"]
    monkeypatch.setattr(networks, "_CACHED_BYTES", 10)
    run(doubling(5, calls), CacheEntry(tmp_path, "e", ""))
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_what_a_killed_process_was_writing_goes_with_the_next_network(tmp_path: Path) -> None:
    old, new, other = (
        tmp_path / name for name in ("a.openvino.1.part", "a.openvino.2.part", "b.json.3.part")
    )
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (1, 1))
    run(doubling(2, []), CacheEntry(tmp_path, "net", ""))
    # Another process may be writing the new one, and the other one is not a network.
    assert sorted(path.name for path in tmp_path.glob("*.part")) == [new.name, other.name]


def test_without_room_on_disk_a_network_computes_all_the_same(tmp_path: Path) -> None:
    calls: list[float] = []
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run(doubling(2, calls), CacheEntry(tmp_path / "file", "net", "")).tolist() == [[2.0] * 4] * 2


def test_an_installed_package_that_cannot_be_imported_is_passed_over_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "brokenpackage.py").write_text("raise ImportError('libmissing.so: no such file')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    packages = {"openvino": "brokenpackage", "onnx": "nosuchpackage", "torch": "torch"}
    monkeypatch.setattr(Form, "package", property(lambda form: packages[form.library]))
    tower = Tower(tmp_path, openvino=0.0, onnx=0.0)
    with caplog.at_level(logging.WARNING):
        assert tower.choose().name == "plain"
    assert tower.loaded == ["plain"]
    assert [record.getMessage() for record in caplog.records] == [
        "brokenpackage is installed and cannot be imported (libmissing.so: no such file)."
    ]
    with pytest.raises(ModelError, match=r"brokenpackage is installed and cannot be imported"):
        tower.choose("openvino")


def test_a_build_of_another_name_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "renamedbuild.py").write_text("__version__ = '7.8.9'\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    packages = {"openvino": "renamedbuild", "torch": "torch"}
    monkeypatch.setattr(Form, "package", property(lambda form: packages[form.library]))
    assert Tower(tmp_path, openvino=0.0).choose().name == "openvino"
    assert "openvino f32, 7.8.9, " in (tmp_path / "runtimes.json").read_text(encoding="utf-8")


def test_what_onnxruntime_refuses_is_a_runtime_error() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(RuntimeError, match="ONNXRuntimeError"):
        open_network(ONNX_F32, lambda: b"no graph")

    def thirds() -> bytes:
        graph = Graph()
        x = graph.input("x", np.float32, ("n", 4))
        graph.output(graph.reshape(x, (3, -1)), "y", ("a", "b"))
        return graph.serialize()

    # That eight numbers are no three rows shows only when it computes.
    with pytest.raises(RuntimeError, match="cannot be reshaped"):
        open_network(ONNX_F32, thirds).run(np.ones((2, 4), np.float32))


def test_what_cannot_be_remembered_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert Tower(tmp_path, openvino=0.0).choose().name == "openvino"
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_what_is_cached_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            Memory("text", "ab", (), (tmp_path / "runtimes.json",)).remember(ONNX_F32, 1.0)
        finally:
            os.umask(before)
        (file,) = tmp_path.iterdir()
        assert file.stat().st_mode & 0o777 == mode


def test_two_processes_that_make_room_at_once_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(doubling(2, []), CacheEntry(tmp_path, "a", ""))
    gone = tmp_path / "gone.openvino"
    found = Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [gone, *found(folder, pattern)])
    with caplog.at_level(logging.WARNING):
        run(doubling(3, []), CacheEntry(tmp_path, "b", ""))
    assert caplog.text == ""
