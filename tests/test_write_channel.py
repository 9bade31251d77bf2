"""A lease is a connection: it ends when either end does, and no fork keeps it open."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator

import pytest

from crossmodal.errors import CrossmodalError, ServiceError, StoreLocked, StoreUnwritable
from flows.write_channel import Lease, LeaseServer, open_lease


@pytest.fixture
def server() -> Iterator[LeaseServer]:
    made = LeaseServer()
    yield made
    made.close()


def serve_until(server: LeaseServer, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        server.wait(0.05)


def asked(server: LeaseServer, answer: Callable[[], None]) -> Lease:
    """A lease that ``server`` gives, in one event loop, with ``answer`` called when it waits."""

    async def ask() -> Lease:
        opening = asyncio.create_task(open_lease(server.address))
        while not server.waiting or not server:
            await asyncio.sleep(0)
            server.wait(0)
        answer()
        return await opening

    return asyncio.get_event_loop().run_until_complete(ask())


@pytest.fixture(autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    made.run_until_complete(asyncio.sleep(0))
    made.close()
    asyncio.set_event_loop(None)


def test_a_lease_lasts_until_it_is_given_back(server: LeaseServer, loop: asyncio.AbstractEventLoop) -> None:
    lease = asked(server, lambda: server.grant(4321))
    assert lease.port == 4321
    server.wait(0)
    assert server
    assert not server.waiting
    assert not lease.ended.done()
    lease.give_back()
    loop.run_until_complete(asyncio.sleep(0))
    serve_until(server, lambda: not server)


def test_whoever_holds_one_learns_that_the_flow_has_ended(
    server: LeaseServer, loop: asyncio.AbstractEventLoop
) -> None:
    lease = asked(server, lambda: server.grant(1))
    assert not lease.ended.done()
    server.end_leases()
    loop.run_until_complete(asyncio.wait_for(lease.ended, 60))
    assert not server
    lease.give_back()
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize(
    "error", [StoreLocked("taken"), StoreUnwritable("full"), ServiceError("gone")], ids=repr
)
def test_a_refusal_is_the_error_itself(server: LeaseServer, error: CrossmodalError) -> None:
    with pytest.raises(type(error), match=str(error)) as raised:
        asked(server, lambda: server.refuse(error))
    assert type(raised.value) is type(error)
    assert not server


def test_nobody_to_ask_is_a_sentence(server: LeaseServer, loop: asyncio.AbstractEventLoop) -> None:
    server.stop_listening()
    with pytest.raises(ServiceError, match="does not answer"):
        loop.run_until_complete(open_lease(server.address))


def test_an_end_before_the_answer_is_a_sentence(server: LeaseServer) -> None:
    with pytest.raises(ServiceError, match="ended while it was starting"):
        asked(server, server.end_leases)


def test_a_forked_process_does_not_hold_the_lease(
    server: LeaseServer, loop: asyncio.AbstractEventLoop
) -> None:
    lease = asked(server, lambda: server.grant(1))
    waiting, waking = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(waking)
        os.read(waiting, 1)
        os._exit(0)
    try:
        server.end_leases()
        loop.run_until_complete(asyncio.wait_for(lease.ended, 60))
    finally:
        os.close(waking)
        os.close(waiting)
        os.waitpid(child, 0)
    lease.give_back()
    loop.run_until_complete(asyncio.sleep(0))
