"""The fuzz targets over their corpus and mutations of it; `make slow` fuzzes each for ten minutes."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import run_python
from fuzz.corpus import CORPUS, corpus_of
from fuzz.targets import TARGETS

from crossmodal import limits

# The same mutations each time.
SEED = 13
MUTATIONS = 15


def inputs_of(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some bytes turned, cut out, doubled or taken from what parsers look for."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(4):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del made[at : at + chance.randint(1, 8)]
            case 2:
                made[at:at] = made[max(at - chance.randint(1, 16), 0) : at]
            case _:
                made[at:at] = chance.choice(
                    (b"\0", b"\xff\xff\xff\xff", b'"', b"{", b"]", b"*", b"-", b"\r\n", b"NaN")
                )
    return bytes(made)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_what_its_script_writes_and_small(target: str) -> None:
    contents = {path.read_bytes() for path in inputs_of(target)}
    assert len(contents) >= 4
    assert sum(map(len, contents)) < 100_000
    if target != "images":
        # Files of photos differ with the codecs that wrote them.
        assert set(corpus_of(target)) <= contents


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_documented_errors_comes_out(target: str) -> None:
    chance = random.Random(SEED)
    for path in inputs_of(target):
        content = path.read_bytes()
        for tried in (content, *(mutated(content, chance) for _ in range(MUTATIONS))):
            try:
                TARGETS[target](tried)
            except Exception as error:  # noqa: BLE001  this is what is looked for
                pytest.fail(f"{path.name} as {tried!r}: {type(error).__name__}: {error}")


def test_a_target_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(**{**vars(limits), "WEIGHT": SimpleNamespace(most=0.1)})
    monkeypatch.setattr("fuzz.targets.limits", known)
    with pytest.raises(AssertionError):
        TARGETS["expressions"](b"dog")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no package for this Python")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", TARGETS)
def test_ten_minutes_of_fuzzing_find_nothing(target: str) -> None:
    done = run_python("-m", "tests.fuzz", target, "--seconds", "600", timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
