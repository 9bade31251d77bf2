"""Machines in network namespaces of their own, joined by cables, that nothing else reaches.

A namespace belongs to a thread: each machine is one, and so is what it starts.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn, ParamSpec, TypeVar

import pytest

# The internet's side. They have to be public addresses, so they are somebody's; no packet leaves the cable.
OUTSIDE = "8.8.4.4"
OUTSIDE_6 = "2001:4860:4860::8844"

# Of the machine that is attacked: its address on the internet, and others that only it can reach.
INSIDE = "8.8.4.100"
INSIDE_6 = "2001:4860:4860::100"
PRIVATE = (
    "10.0.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
)
PRIVATE_6 = ("fd00:ec2::254", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1", "fec0::1")

# Of the other machine too, as a neighbour in the same private network, to whom the inside has a route.
NEIGHBOURS = ("10.1.1.1", "100.64.0.9", "169.254.7.7", "172.31.0.9", "192.168.7.7")
NEIGHBOURS_6 = ("fd12::1", "fec0::7", "64:ff9b::a01:101", "2002:a01:101::1")

_CLONE_NEWNET = 0x40000000

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Machine:
    """One of them; ``run`` does something on it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, initializer=_enter_own_network)
        self.thread = self.run(threading.get_native_id)

    def run(
        self, work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Result:
        """What ``work`` returns or raises on this machine."""
        return self._thread.submit(work, *arguments, **named).result()

    def ip(self, command: str) -> None:
        """Runs ``ip COMMAND``."""
        done = self.run(subprocess.run, ["ip", *command.split()], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {command}: {done.stderr}"

    def close(self) -> None:
        """Ends its thread, and with its last process and socket the machine."""
        self._thread.shutdown()


@contextmanager
def two_networks() -> Iterator[tuple[Machine, Machine]]:
    """The attacked machine and one on the internet; without them a test is skipped, or with CI=true fails."""
    inside, outside = _machines(2)
    inside.ip(f"link add cable type veth peer name cable netns {outside.thread}")
    for machine, address, address_6 in ((inside, INSIDE, INSIDE_6), (outside, OUTSIDE, OUTSIDE_6)):
        machine.ip("link set lo up")
        machine.ip(f"addr add {address}/24 dev cable")
        machine.ip("link set cable up")
        machine.ip(f"addr add {address_6}/64 dev cable nodad")
    for address in PRIVATE:
        inside.ip(f"addr add {address}/32 dev lo")
    for address in PRIVATE_6:
        inside.ip(f"addr add {address}/128 dev lo nodad")
    for address in (*NEIGHBOURS, *NEIGHBOURS_6):
        outside.ip(f"addr add {address} dev cable nodad")
        inside.ip(f"route add {address} dev cable src {INSIDE_6 if ':' in address else INSIDE}")
    yield inside, outside
    inside.close()
    outside.close()


@contextmanager
def hosts_on_a_bridge(*addresses: str) -> Iterator[tuple[Machine, ...]]:
    """A switch, then a host for each address in one /24; the cable of host 0 ends in ``port0`` of the switch.

    Without namespaces a test is skipped, or with CI=true fails.
    """
    switch, *hosts = _machines(1 + len(addresses))
    switch.ip("link add bridge type bridge")
    switch.ip("link set bridge up")
    for number, (host, address) in enumerate(zip(hosts, addresses, strict=True)):
        switch.ip(f"link add port{number} type veth peer name cable netns {host.thread}")
        switch.ip(f"link set port{number} master bridge up")
        host.ip("link set lo up")
        host.ip(f"addr add {address}/24 dev cable")
        host.ip("link set cable up")
    yield switch, *hosts
    for machine in (switch, *hosts):
        machine.close()


def _machines(count: int) -> list[Machine]:
    if shutil.which("ip") is None:
        missing("`ip` is missing; on Debian, `sudo apt-get install iproute2`.")
    try:
        return [Machine() for _ in range(count)]
    except Exception:  # noqa: BLE001  the pool hides what the initializer raised
        missing("Network namespaces cannot be made here: that takes root and CAP_SYS_ADMIN.")


def _enter_own_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def missing(sentence: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
