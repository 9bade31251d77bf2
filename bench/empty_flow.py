"""An empty Flow of jina: what starting one costs, whatever it serves. ``python -m bench.empty_flow PORT``."""

from __future__ import annotations

import sys

from crossmodal.settings import export

__all__: list[str] = []


def _main(port: int) -> None:
    export({})
    from jina import Flow

    with Flow(port=port, protocol="http"):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
