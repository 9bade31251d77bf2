"""What is known of a photo beside its pixels: from its file, its sidecars, its name and its folder.

::

    names = {entry.name for entry in os.scandir(folder)}
    found = find_sidecars("IMG_1.jpg", names)
    metadata = read_metadata(
        content, name="IMG_1.jpg", folder="2019/italy", sidecars={name: read(name) for name in found}
    )
    metadata.tags["taken"], metadata.captions, metadata.warnings

Nothing here opens a file or decodes a pixel, and nothing raises for what is in the bytes: what is malformed
becomes a warning.
"""

from crossmodal.metadata.fields import FIELDS, PRIVATE, Field
from crossmodal.metadata.reading import Caption, Metadata, read_metadata, read_video_metadata
from crossmodal.metadata.sidecars import MAX_SIDECAR_BYTES, find_sidecars, is_sidecar

__all__ = [
    "FIELDS",
    "MAX_SIDECAR_BYTES",
    "PRIVATE",
    "Caption",
    "Field",
    "Metadata",
    "find_sidecars",
    "is_sidecar",
    "read_metadata",
    "read_video_metadata",
]
