"""One sentence costs few calls of this project's own code, so that the interpreter's lock is held shortly."""

from __future__ import annotations

from pathlib import Path

from bench.harness import count_calls
from crossmodal.engine.engine import Engine
from crossmodal.query.expression import Term
from crossmodal.query.request import SearchRequest
from crossmodal.settings import Settings

# The same sentence took 764 when a Flow in other processes answered it, and 295 before limits, deadlines and
# damage were looked at on its way, and the sides and colours of photos for those who draw them.
MOST = 450


def test_a_sentence_takes_few_calls(toy_workspace: Path) -> None:
    with Engine(Settings(workspace=toy_workspace)) as engine:
        engine.prepare()

        def ask(sentence: str) -> None:
            outcomes, _ = engine.search([SearchRequest((Term(text=sentence),), top_k=3)])
            assert len(outcomes[0].matches) == 3

        ask("a dog on a beach")
        assert count_calls(lambda: ask("a cat looks into the camera")) <= MOST
