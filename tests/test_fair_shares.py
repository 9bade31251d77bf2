"""One client's large requests leave the others their answers."""

from __future__ import annotations

import threading
import time
from typing import Any

from conftest import Server


def test_many_sentences_of_one_client_do_not_keep_the_others_waiting(toy_server: Server) -> None:
    queries = [{"terms": [{"text": f"sentence {query}-{n}"} for n in range(16)]} for query in range(8)]
    answers: list[tuple[int, Any]] = []
    busy = threading.Thread(
        target=lambda: answers.append(
            toy_server.request("/v1/search", {"queries": queries, "top_k": 1}, timeout=120)
        )
    )
    busy.start()
    time.sleep(0.2)
    for number in range(2):
        status, _ = toy_server.request("/v1/search", {"text": f"a cat, and the number {number}"})
        assert status == 200
        assert busy.is_alive(), "the large request was answered first"
    busy.join()
    ((status, answer),) = answers
    assert status == 200
    assert [len(result["matches"]) for result in answer["results"]] == [1] * 8
