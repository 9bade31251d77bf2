"""Which published model would do better than the shipped one, in one line; makes no request."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from crossmodal.extras import how_to_install
from crossmodal.models.zoo.names import find_record, is_cached

__all__ = ["SUGGESTED", "better_model"]

# Of the models that a laptop computes in reasonable time, the one with the best published results on COCO,
# most languages and a licence for any use (docs/models.md).
SUGGESTED = "siglip2-b-16"


def better_model(used: str, cache: Path) -> str:
    """The line that offers ``SUGGESTED`` to somebody whose new index is built by the default model ``used``.

    ``cache`` is the folder of ``--model-cache``.
    """
    record = find_record(SUGGESTED)
    assert record is not None, "the suggested model is one of the zoo"
    size = f"{(record.download_size or 0) / 1e6:,.0f} MB"
    here = (
        f"its {size} are downloaded already"
        if is_cached(record, cache)
        else f"{size} are downloaded at its first use, and nothing was tried now"
    )
    install = "" if find_spec("open_clip") else f", after {how_to_install('open_clip')}"
    return (
        f"{used} is small and reads English. {record.name} finds more, in {record.languages} languages: "
        f"index into a new workspace with -m {record.name}{install} ({here})."
    )
