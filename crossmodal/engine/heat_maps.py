"""The heat map of an indexed photo for a sentence, through the query Flow's encoders."""

from __future__ import annotations

from crossmodal.documents import Document
from crossmodal.engine.encoding import encoded
from crossmodal.errors import QueryError
from crossmodal.flow.runner import Flow
from crossmodal.images.cropping import shown_part
from crossmodal.images.limits import MEGABYTE
from crossmodal.images.pool import PhotoRequest, shared_pool
from crossmodal.index.embedded.scores import inner_products
from crossmodal.models import load_preprocessing
from crossmodal.query.heat_maps import GRID, MEASURED, HeatMap, greyed
from crossmodal.records import IMAGE, TEXT, Look
from crossmodal.settings import Settings
from crossmodal.steps.step import TOGETHER
from crossmodal.workspace import Workspace

__all__ = ["heat_map"]


def heat_map(flow: Flow, workspace: Workspace, settings: Settings, id: str, text: str) -> HeatMap | None:
    """Which parts of the photo ``id`` fit ``text``; None where there is no such photo.

    ``settings`` are those of the index. Raises QueryError where it isn't known whether maps agree with the
    model's scores, and for an empty sentence; OriginalGone where the photo's file is gone, DataError where it
    cannot be read, and for a moment of a video.
    """
    model = str(settings.model)
    if model not in MEASURED:
        raise QueryError(
            f"There are no heat maps with the model {model}: whether they agree with its scores has not been "
            f"measured. There are with {' and '.join(MEASURED)}."
        )
    found = workspace.content(id)
    if found is None:
        return None
    preprocessing = load_preprocessing(model, cache=settings.model_cache)
    wanted = PhotoRequest(preprocessing.square, preprocessing.decoded_side, max_pixels=settings.max_pixels)
    with shared_pool((settings.decode_memory or 0) * MEGABYTE) as pool:
        pixels = pool.decode(found[0], wanted).pixels
    inputs = [pixels, *(greyed(pixels, number) for number in range(GRID * GRID))]
    docs = [Document(str(number), IMAGE, TEXT, pixels=each) for number, each in enumerate(inputs)]
    sentence = Document.of_query("text", text=text)
    vectors = encoded(flow, [sentence, *docs], {TOGETHER: True})
    cosines = inner_products(vectors[0], vectors[1:])
    falls = (cosines[0] - cosines[1:]).reshape(GRID, GRID).tolist()
    look = workspace.looks([id]).get(id, Look())
    part = (
        None
        if look.width is None or look.height is None
        else shown_part(look.width, look.height, preprocessing.square)
    )
    return HeatMap(id, text, float(cosines[0]), tuple(map(tuple, falls)), part)
