"""The runtime and the model, and nothing else: what no server can start without."""

from __future__ import annotations

from crossmodal.models import DEFAULT_MODEL, load_image_encoder, load_text_encoder
from crossmodal.settings import Settings

__all__: list[str] = []


def _main() -> None:
    cache = Settings().model_cache
    load_image_encoder(DEFAULT_MODEL, cache=cache)
    load_text_encoder(DEFAULT_MODEL, cache=cache).encode(["ready"])
    print("ready", flush=True)


if __name__ == "__main__":
    _main()
