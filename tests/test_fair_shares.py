"""One client's large requests leave the others their answers."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from conftest import Server

LARGE = 64 * 16


def large_search(server: Server, number: int) -> tuple[int, Any]:
    queries = [{"terms": [{"text": f"sentence {number}-{q}-{n}"} for n in range(16)]} for q in range(64)]
    return server.request("/v1/search", {"queries": queries, "top_k": 1}, timeout=120)


def test_many_sentences_of_one_client_do_not_keep_the_others_waiting(toy_server: Server) -> None:
    numbers = itertools.count()
    answered: list[tuple[int, Any]] = []
    enough = threading.Event()
    one_is_answered = threading.Event()

    def ask_for_much() -> None:
        while not enough.is_set():
            answered.append(large_search(toy_server, next(numbers)))
            one_is_answered.set()

    busy = [threading.Thread(target=ask_for_much) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        # From here on, a large request is always under way.
        assert one_is_answered.wait(60)
        before = len(answered)
        for number in range(10):
            # Two terms are encoded in the same line as the terms of the large ones.
            terms = [{"text": "a cat"}, {"text": f"the number {number}"}]
            status, _ = toy_server.request("/v1/search", {"terms": terms})
            assert status == 200
        meanwhile = len(answered) - before
    finally:
        enough.set()
        for thread in busy:
            thread.join()
    # Each of the ten would wait for one of them at least where requests were taken whole.
    assert meanwhile < 5, f"{meanwhile} requests of {LARGE} sentences were answered during ten of one"
    for status, answer in answered:
        assert status == 200
        assert [len(result["matches"]) for result in answer["results"]] == [1] * 64
