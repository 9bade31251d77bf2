"""A process that reads one video: ``python -m crossmodal.videos.worker FILE LIFELINE JOB``.

``reading`` starts it with the open file as a descriptor. It has no network, writes no file, takes no more
memory than a limit and ends with its parent. On stdout comes a line of JSON, what is known of the video or
the error, and behind it the JPEGs of its frames.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from typing import Any

from crossmodal.errors import ImageError
from crossmodal.images.worker import end_with_parent, restrict
from crossmodal.videos.frames import choose_frames

# What decoding may take beside the libraries: 16 frames that a codec holds, of 8K with 10 bits.
_MEMORY = 2 << 30


def _main(arguments: list[str]) -> None:
    file, lifeline, job = int(arguments[0]), int(arguments[1]), json.loads(arguments[2])
    end_with_parent(lifeline)
    restrict()
    import av

    # Nothing of what codecs say reaches a terminal.
    av.logging.set_level(av.logging.PANIC)
    _limit_memory()
    said, frames = _read(file, job)
    out = sys.stdout.buffer
    out.write(json.dumps({**said, "frames": [(seconds, len(jpeg)) for seconds, jpeg in frames]}).encode())
    out.write(b"\n")
    for _, jpeg in frames:
        out.write(jpeg)
    out.flush()
    # Codecs may have threads and exit handlers of their own.
    os._exit(0)


def _read(file: int, job: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[float, bytes]]]:
    try:
        chosen = choose_frames(f"/proc/self/fd/{file}", **job)
    except ImageError as error:
        return {"error": str(error)}, []
    except MemoryError:
        return {"error": f"Decoding the video needs more than {_MEMORY >> 20:,} MiB of memory."}, []
    said = {
        "width": chosen.width,
        "height": chosen.height,
        "duration": chosen.duration,
        "tags": chosen.tags,
        "warning": chosen.warning,
    }
    return said, [(frame.seconds, frame.jpeg) for frame in chosen.frames]


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))


if __name__ == "__main__":
    _main(sys.argv[1:])
