"""Videos that tests make: toy photos, each shown for some seconds, by PyAV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from photos import toy_photo
from PIL import Image

RATE = 5


def write_video(
    path: Path,
    photos: Sequence[str],
    *,
    seconds: float = 3.0,
    codec: str = "h264",
    tags: Mapping[str, str] | None = None,
    size: tuple[int, int] = (320, 240),
) -> Path:
    """A video of the toy photos with these names; "black" is a black picture."""
    import av

    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"} if tags else {}) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 5 * RATE
        for name in photos:
            picture = Image.new("RGB", size) if name == "black" else toy_photo(f"{name}.jpg").resize(size)
            for _ in range(round(seconds * RATE)):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
