"""``-t query``: a sentence finds photos, a photo finds captions; then it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from commands.opening import open_for_reading
from crossmodal.data_sets import read_photo_file
from crossmodal.errors import DataError, SettingsError
from crossmodal.records import IMAGE, TEXT
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace


def run(settings: Settings) -> int:
    """Answers the queries given; returns 0 if every one could be answered, else 1."""
    if settings.query_text is None and settings.query_image is None:
        raise SettingsError("Nothing to search for: give --query-text TEXT or --query-image FILE, or both.")
    image = None if settings.query_image is None else read_photo_file(settings.query_image)
    if settings.query_text is not None and not settings.query_text.isprintable():
        raise DataError(f"The query {settings.query_text!r} holds characters that are not text.")
    workspace = Workspace(settings.workspace)
    settings = open_for_reading(settings, workspace)

    from flows.service import FlowService

    with FlowService("query", settings) as service:
        results = _search(service, settings, image)
    if settings.json:
        print(json.dumps({"model": settings.model, "results": results}, ensure_ascii=False))
    else:
        from commands.present.tables import print_results

        print_results(results)
    if settings.picture is not None:
        _draw(results, image, workspace, settings.picture)
        print(f"picture: {settings.picture}", file=sys.stderr)
    for result in results:
        if result["error"]:
            print(f"error: {result['error']}", file=sys.stderr)
    return 1 if any(result["error"] for result in results) else 0


def _search(service: Any, settings: Settings, image: bytes | None) -> list[dict[str, Any]]:
    from crossmodal.documents import MediaDocument
    from flows.client import search

    queries = []
    if settings.query_text is not None:
        queries.append(MediaDocument(id="text", modality=TEXT, text=settings.query_text))
    if settings.query_image is not None:
        queries.append(MediaDocument(id="image", modality=IMAGE, blob=image))
    asked = {"text": settings.query_text, "image": str(settings.query_image)}
    return [
        {
            "modality": doc.modality,
            "query": asked[str(doc.id)],
            "error": doc.error,
            "matches": [
                {
                    "id": str(match.id),
                    "modality": match.modality,
                    "score": match.score,
                    "uri": match.uri,
                    "text": match.text,
                    "photo_id": match.photo_id,
                    "tags": match.tags or {},
                }
                for match in doc.matches or ()
            ],
        }
        for doc in search(service, queries, top_k=settings.top_k)
    ]


def _draw(results: list[dict[str, Any]], image: bytes | None, workspace: Workspace, path: Path) -> None:
    from commands.present.picture import PictureQuery, write_picture

    def content_of(photo_id: str) -> bytes | None:
        found = workspace.thumbnail(photo_id)
        return found[0] if found else None

    write_picture(
        [PictureQuery.from_json(result, photo=image, content_of=content_of) for result in results], path
    )
