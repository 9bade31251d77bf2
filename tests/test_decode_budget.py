"""One budget of memory for all photos that are being decoded: waited for, never exceeded, never lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import REPOSITORY
from photos import encoded
from PIL import Image

from crossmodal.deadlines import Deadline, until
from crossmodal.errors import DeadlinePassed, ImageError
from crossmodal.images import decode_image
from crossmodal.images.budget import MemoryBudget, process_budget

MEGABYTE = 1 << 20


@pytest.fixture
def budget() -> Iterator[MemoryBudget]:
    made = MemoryBudget(512 * MEGABYTE)
    yield made
    made.close()


def test_it_is_never_exceeded_and_everyone_gets_a_turn(budget: MemoryBudget) -> None:
    lock, held, most, served = threading.Lock(), 0, 0, 0

    def work(seed: int) -> None:
        nonlocal held, most, served
        numbers = random.Random(seed)
        for _ in range(6):
            wanted = numbers.choice([1, 30, 200, 512]) * MEGABYTE
            with budget.reserve(32 * MEGABYTE) as reserved:
                reserved.grow(wanted)
                with lock:
                    held += reserved.size
                    most = max(most, held)
                assert budget.status().used <= budget.limit
                time.sleep(0.002)
                with lock:
                    held -= reserved.size
                    served += 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert served == 48
    # It was used in full, and no more.
    assert most == budget.limit
    assert budget.status().used == budget.status().waiting == 0


def test_who_waits_is_counted_and_served_first(budget: MemoryBudget) -> None:
    order: list[str] = []

    def take(name: str, wanted: int) -> None:
        with budget.reserve(wanted):
            order.append(name)

    with budget.reserve(400 * MEGABYTE):
        large = threading.Thread(target=take, args=("large", 500 * MEGABYTE))
        large.start()
        while budget.status().waiting < 1:
            time.sleep(0.001)
        small = threading.Thread(target=take, args=("small", MEGABYTE))
        small.start()
        while budget.status().waiting < 2:
            time.sleep(0.001)
        # There would be room for the small one; but then the large one might wait for ever.
        time.sleep(0.05)
        assert order == []
        assert budget.status().used == 400 * MEGABYTE
    large.join(10)
    small.join(10)
    assert order == ["large", "small"]


def test_nobody_waits_longer_than_until_the_deadline(budget: MemoryBudget) -> None:
    with budget.reserve(400 * MEGABYTE):
        with until(Deadline(0.05)), pytest.raises(DeadlinePassed):
            budget.reserve(500 * MEGABYTE)
        with until(Deadline(0.05)), budget.reserve(MEGABYTE) as more:
            with pytest.raises(DeadlinePassed):
                more.grow(500 * MEGABYTE)
            assert more.size == 0
        assert budget.status().used == 400 * MEGABYTE
        assert budget.status().waiting == 0
    with budget.reserve(512 * MEGABYTE):
        assert budget.status().used == 512 * MEGABYTE


def test_what_can_never_fit_is_refused_at_once(budget: MemoryBudget) -> None:
    with (
        budget.reserve(MEGABYTE) as reserved,
        pytest.raises(ImageError, match=r"takes 513 MB of memory; all photos .* 512 MB.*--decode-memory"),
    ):
        reserved.grow(512 * MEGABYTE + 1)


HOLD = """
import sys
from crossmodal.images.budget import process_budget
with process_budget().reserve(300 << 20):
    print(process_budget().limit >> 20, process_budget().status().used >> 20, flush=True)
    sys.stdin.read()
"""


def test_other_processes_share_it_and_lose_what_they_hold_when_they_are_killed(budget: MemoryBudget) -> None:
    with budget.reserve(100 * MEGABYTE):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD],
            cwd=REPOSITORY,
            env={**os.environ, **budget.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline().split() == [b"512", b"400"]
            assert budget.status().used == 400 * MEGABYTE
            got: list[float] = []

            def take() -> None:
                with budget.reserve(200 * MEGABYTE):
                    got.append(time.monotonic())

            waiting = threading.Thread(target=take)
            waiting.start()
            time.sleep(0.1)
            assert got == []
            process.kill()
            waiting.join(10)
            assert len(got) == 1


def test_a_ledger_whose_process_has_ended_is_not_used() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ask = "from crossmodal.images.budget import process_budget as b; print(b().limit >= 128 << 20)"
    environment = {**os.environ, "CROSSMODAL_DECODE_LEDGER": f"/proc/{gone.pid}/fd/3"}
    said = subprocess.check_output([sys.executable, "-c", ask], cwd=REPOSITORY, env=environment)
    assert said.split() == [b"True"]


def test_decoding_in_this_process_keeps_to_the_budget_too() -> None:
    before = process_budget()
    large = encoded(Image.new("RGBA", (2500, 2500)), "PNG")
    try:
        process_budget(64 * MEGABYTE)
        with pytest.raises(ImageError, match=r"--decode-memory"):
            decode_image(large)
        assert process_budget().status().used == 0
        small = Image.new("RGB", (1000, 500))
        assert decode_image(encoded(small, "PNG")).shape == (500, 1000, 3)
    finally:
        process_budget(before.limit)
    assert decode_image(large).shape == (2500, 2500, 3)


def test_a_forked_process_shares_it_and_holds_nothing_of_its_parents(budget: MemoryBudget) -> None:
    hear, say = os.pipe()
    with budget.reserve(100 * MEGABYTE):
        pid = os.fork()
        if pid == 0:
            try:
                with budget.reserve(200 * MEGABYTE):
                    os.write(say, b"%d" % (budget.status().used // MEGABYTE))
                    time.sleep(60)
            finally:
                os._exit(1)
        try:
            assert os.read(hear, 16) == b"300"
            assert budget.status().used == 300 * MEGABYTE
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert budget.status().used == 100 * MEGABYTE
    os.close(hear)
    os.close(say)
