"""The process that holds a Flow's executors: ``python -m crossmodal.jina.flow_process KIND YAML TEMPORARY``.

It starts the Flow that the YAML describes (its variables come in the environment), says the gateway's port,
and ends with its parent. Where one of the Flow's processes ends unasked, it reports which, ends the others
and itself: jina restarts nothing. ``TEMPORARY`` is a folder for this Flow alone, removed at the end: each
worker of jina makes one in it at its start, and never removes it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from crossmodal.errors import CrossmodalError
from crossmodal.flow.topology import configured_class, read_topology
from crossmodal.jina.child import CLOSE_SECONDS, Parent
from crossmodal.jina.launch import FLOW_LOG, import_jina
from crossmodal.jina.shard_heads import add_shard_heads
from crossmodal.log import open_log
from crossmodal.processes import exit_words

_CHECK_SECONDS = 0.1
_PARENT_CHECK_SECONDS = 1.0

# gRPC lets several servers share a port otherwise, and two Flows would get each other's requests.
_EXCLUSIVE_PORT = {"grpc.so_reuseport": 0}


class _FlowProcess:
    def __init__(self, kind: str, path: str, temporary: str) -> None:
        self._kind = kind
        self._path = path
        self._temporary = tempfile.tempdir = temporary
        self._started = False
        self._ending = threading.Event()
        # One of the threads ends this process, and no other one says anything else meanwhile.
        self._leaving = threading.Lock()
        self._processes: dict[int | None, BaseProcess] = {}
        self._parent = Parent(self._end)

    def run(self) -> None:
        """Runs the Flow until the parent ends."""
        # Forked processes write as this one does.
        open_log(os.environ.get(FLOW_LOG, "text"))
        os.register_at_fork(after_in_child=_end_with_parent)
        threading.Thread(target=self._watch, name="watch-processes", daemon=True).start()
        try:
            flow = self._build()
            for head in add_shard_heads(flow):
                head.start()
            flow.start()
        except CrossmodalError as error:
            self._fail(str(error))
        except BaseException as error:  # noqa: BLE001  whatever jina raises, its processes must end
            self._fail(f"The {self._kind} Flow could not be started ({type(error).__name__}).")
        self._started = True
        self._parent.say_ready(str(flow.port))
        self._ending.wait()
        threading.Thread(target=flow.close, name="close", daemon=True).start()
        deadline = time.monotonic() + CLOSE_SECONDS
        while multiprocessing.active_children() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._leave(0)

    def _build(self) -> Any:
        jina = import_jina()

        from crossmodal.jina.run_token import guard_grpc

        # Before the fork, for the processes that hold no step as well.
        guard_grpc()
        # The adapter and the steps' classes, before the fork, so that each executor starts with them.
        import_module("crossmodal.jina.executor")
        for step in read_topology(Path(self._path), os.environ).steps:
            configured_class(step.config)
        # What is imported stays, and the processes share its memory as long as none looks for garbage in it.
        gc.collect()
        gc.freeze()
        return jina.Flow.load_config(self._path).config_gateway(
            protocol="grpc", host="127.0.0.1", grpc_server_options=_EXCLUSIVE_PORT
        )

    def _end(self) -> None:
        """The parent has ended, or wants this to end."""
        self._ending.set()
        if not self._started:
            self._leave(1)

    def _watch(self) -> None:
        while not self._ending.wait(_CHECK_SECONDS):
            self._note_processes()
            for process in list(self._processes.values()):
                if process.exitcode is not None and not self._ending.is_set():
                    self._fail(self._how_it_ended(process))

    def _how_it_ended(self, process: BaseProcess) -> str:
        name = f"The process {process.name} of the {self._kind} Flow"
        if self._started:
            return (
                f"{name} ended unexpectedly ({exit_words(process.exitcode)}). "
                "Start again; crossmodal verify tells whether the index is whole."
            )
        if process.exitcode == 0:
            # jina's executors end so after an error that they have logged.
            return f"{name} could not start."
        return f"{name} ended while starting ({exit_words(process.exitcode)})."

    def _note_processes(self) -> None:
        # Python forgets a process that has ended; it is found out here by its exit code.
        self._processes |= {process.pid: process for process in multiprocessing.active_children()}

    def _fail(self, sentence: str) -> NoReturn:
        self._leave(1, sentence)

    def _leave(self, code: int, sentence: str | None = None) -> NoReturn:
        self._leaving.acquire()
        self._note_processes()
        for process in self._processes.values():
            process.kill()
        shutil.rmtree(self._temporary, ignore_errors=True)
        if sentence is not None:
            self._parent.say_failed(sentence)
        # jina, on its way out, would wait for processes that are gone.
        os._exit(code)


def _end_with_parent() -> None:
    """Lets a forked process end when this one ends, even where it is killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


if __name__ == "__main__":
    _FlowProcess(*sys.argv[1:]).run()
