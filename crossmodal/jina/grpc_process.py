"""The process that answers gRPC beside the HTTP server: ``python -m crossmodal.jina.grpc_process``.

It has an engine of its own over the same index. Its settings come in its environment, and it ends with its
parent.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from crossmodal.engine.engine import Engine
from crossmodal.errors import CrossmodalError
from crossmodal.jina.child import CLOSE_SECONDS, Parent
from crossmodal.jina.launch import GRPC_SETTINGS, import_jina, settings_from_json
from crossmodal.log import open_log
from crossmodal.settings import Settings

_BEAT_SECONDS = 0.5


async def _serve(engine: Engine, settings: Settings, ending: asyncio.Event, parent: Parent) -> None:
    from crossmodal.jina.grpc_server import make_server

    server = await make_server(engine, settings)
    await server.start()
    parent.say_ready()
    beating = asyncio.create_task(_beat(parent))
    await ending.wait()
    beating.cancel()
    await server.stop(grace=CLOSE_SECONDS - 1)


async def _beat(parent: Parent) -> None:
    """Tells the parent again and again that the event loop runs."""
    while True:
        parent.say_running()
        await asyncio.sleep(_BEAT_SECONDS)


def _main() -> None:
    settings = settings_from_json(os.environ.pop(GRPC_SETTINGS))
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    started = threading.Event()

    def end() -> None:
        if not started.is_set():
            os._exit(1)
        loop.call_soon_threadsafe(ending.set)
        # Requests under way may take longer than that, and a parent that was killed cannot end this process.
        threading.Event().wait(CLOSE_SECONDS)
        os._exit(1)

    open_log(settings.log)
    parent = Parent(end)
    # Before anything imports a part of it.
    import_jina()
    with Engine(settings) as engine:
        try:
            engine.prepare()
            started.set()
            loop.run_until_complete(_serve(engine, settings, ending, parent))
        except CrossmodalError as error:
            parent.say_failed(str(error))
            sys.exit(1)


if __name__ == "__main__":
    _main()
