"""Answers of the server from JSON; what this client doesn't know is passed over.

Everything here raises KeyError, TypeError, ValueError or DataError for JSON that isn't such an answer;
``exchange`` makes a sentence of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossmodal.client.answers import (
    Building,
    Caption,
    CountedValue,
    Document,
    DocumentOutcome,
    IndexState,
    LatencyBucket,
    Match,
    ModalityState,
    ModelInfo,
    ModelState,
    Parts,
    Photo,
    Problem,
    QueryResult,
    QueryTerm,
    SearchAnswer,
    SearchState,
    Status,
    TagField,
    Timing,
    Traffic,
    Writing,
)
from crossmodal.records import checked_modality

__all__ = [
    "parse_deleted",
    "parse_document",
    "parse_documents",
    "parse_models",
    "parse_outcomes",
    "parse_search",
    "parse_status",
    "parse_tags",
]

Json = Mapping[str, Any]


def parse_search(answer: Json) -> SearchAnswer:
    """The answer to POST /v1/search."""
    timing = Timing(**{name: float(answer["timing"][name]) for name in Timing.__dataclass_fields__})
    model = str(answer["model"])
    return SearchAnswer(
        tuple(_result(result, model, timing) for result in answer["results"]),
        model,
        timing,
    )


def parse_document(answer: Json) -> Document:
    """The answer to GET /v1/documents/ID."""
    return Document(
        id=str(answer["id"]),
        modality=str(answer["modality"]),
        text=answer["text"],
        mime_type=answer["mime_type"],
        photo=_photo(answer["photo"]),
        captions=_captions(answer["captions"]),
        tags=dict(answer["tags"]),
    )


def parse_documents(answer: Json) -> tuple[tuple[Document, ...], str | None]:
    """The answer to GET /v1/documents: a page of documents, and after which id the next one begins."""
    return tuple(parse_document(document) for document in answer["documents"]), answer["next"]


def parse_deleted(answer: Json) -> tuple[str, ...]:
    """The answer to DELETE /v1/documents/ID: the ids of what was deleted."""
    return tuple(str(id) for id in answer["deleted"])


def parse_outcomes(answer: Json) -> tuple[DocumentOutcome, ...]:
    """The answer to POST /v1/documents."""
    return tuple(_outcome(result) for result in answer["results"])


def parse_tags(answer: Json) -> tuple[TagField, ...]:
    """The answer to GET /v1/tags."""
    return tuple(
        TagField(
            name=str(field["name"]),
            type=str(field["type"]),
            count=int(field["count"]),
            values=tuple(CountedValue(value["value"], int(value["count"])) for value in field["values"]),
            min=field["min"],
            max=field["max"],
        )
        for field in answer["fields"]
    )


def parse_models(answer: Json) -> tuple[ModelInfo, ...]:
    """The answer to GET /v1/models."""
    return tuple(
        ModelInfo(str(model["name"]), model.get("dimension"), model.get("licence"), bool(model["serving"]))
        for model in answer["models"]
    )


def parse_status(answer: Json) -> Status:
    """The answer to GET /v1/status."""
    model, index, writing, traffic = (answer[name] for name in ("model", "index", "writing", "traffic"))
    return Status(
        version=str(answer["version"]),
        model=None
        if model is None
        else ModelState(str(model["name"]), int(model["dimension"]), str(model["weights"])),
        calibrated=bool(answer["calibrated"]),
        modalities={
            name: ModalityState(int(held["documents"]), int(held["vectors"]), int(held["bytes_on_disk"]))
            for name, held in answer["modalities"].items()
        },
        index=IndexState(
            **_search_state(index),
            modalities={
                name: SearchState(**_search_state(part)) for name, part in index["modalities"].items()
            },
        ),
        shards=int(answer["shards"]),
        layout=str(answer["layout"]),
        last_change=answer["last_change"],
        writing=Writing(bool(writing["allowed"]), writing.get("reason"), str(writing["state"])),
        traffic=Traffic(
            queries=int(traffic["queries"]),
            queries_per_second=float(traffic["queries_per_second"]),
            p50_ms=traffic["p50_ms"],
            p99_ms=traffic["p99_ms"],
            latency=tuple(
                LatencyBucket(bucket["le_ms"], int(bucket["count"])) for bucket in traffic["latency"]
            ),
        ),
        uptime_s=float(answer["uptime_s"]),
    )


def _search_state(state: Json) -> dict[str, Any]:
    building = state["building"]
    return {
        "tier": str(state["tier"]),
        "recall": state["recall"],
        "recall_measured": str(state["recall_measured"]),
        "building": None if building is None else Building(str(building["what"]), float(building["done"])),
    }


def _outcome(result: Json) -> DocumentOutcome:
    outcome, error = result["outcome"], result["error"]
    if error is None and outcome not in ("added", "replaced", "unchanged"):
        raise ValueError(f"the outcome {outcome!r} is not known")
    return DocumentOutcome(str(result["source"]), result["id"], result["modality"], outcome, error)


def _result(result: Json, model: str, timing: Timing) -> QueryResult:
    query, error = result["query"] or {}, result["error"]
    return QueryResult(
        terms=tuple(
            QueryTerm(
                weight=float(term["weight"]),
                text=term.get("text"),
                id=term.get("id"),
                modality=term.get("modality"),
                image=term.get("image"),
            )
            for term in query.get("terms") or ()
        ),
        modality=query.get("modality"),
        matches=tuple(_match(match) for match in result["matches"]),
        has_more=bool(result["has_more"]),
        error=None
        if error is None
        else Problem(str(error["title"]), int(error["status"]), str(error.get("detail") or "")),
        model=model,
        timing=timing,
    )


def _match(match: Json) -> Match:
    parts, photo = match.get("parts"), _photo(match.get("photo"))
    return Match(
        id=str(match["id"]),
        modality=checked_modality(match["modality"], "The match"),
        rank=int(match["rank"]),
        score=match["score"],
        cosine=float(match["cosine"]),
        text=match.get("text"),
        photo=photo,
        photo_id=None if photo is None else photo.id,
        file=None if photo is None else photo.file,
        captions=_captions(match.get("captions") or ()),
        tags=dict(match.get("tags") or {}),
        parts=None if parts is None else Parts(**{name: parts[name] for name in Parts.__dataclass_fields__}),
        duplicates=tuple(str(id) for id in match.get("duplicates") or ()),
    )


def _photo(photo: Json | None) -> Photo | None:
    if photo is None:
        return None
    return Photo(str(photo["id"]), str(photo["content"]), str(photo["thumbnail"]), photo.get("file"))


def _captions(captions: Any) -> tuple[Caption, ...]:
    return tuple(Caption(str(caption["id"]), str(caption["text"])) for caption in captions)
