"""Documents on their way from one request into the index: a batch is written while the next one arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crossmodal import limits
from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.http_shapes.values import shown
from crossmodal.records import IMAGE, Record
from crossmodal.server.serving import Serving

__all__ = ["Adding"]

# A batch is written when it has so many documents or bytes; two batches are held at most, and one document.
_BATCH_DOCUMENTS = 32
_BATCH_BYTES = 8 << 20

_NEVER_SENT = "It was not indexed, because the request could not be read to its end; send it again."


@dataclass(slots=True)
class _Result:
    """What became of one document; exactly one of ``outcome`` and ``error`` is set at the end."""

    source: str
    id: str | None = None
    modality: str | None = None
    outcome: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Pending:
    """One document that waits for its batch; ``of`` is the result of the photo whose caption it came as."""

    record: Record
    result: _Result
    of: _Result | None


class Adding:
    """Takes the documents of one request one after the other and records what became of each.

    Use it in an ``async with`` statement: at its end nothing of the request is being written any more.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._results: list[_Result] = []
        self._sources: dict[str, str] = {}
        self._batch: list[_Pending] = []
        self._batch_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        # Whether anything has come through the index Flow, or was found to be in the index.
        self.wrote = False
        self._broken: CrossmodalError | None = None

    async def __aenter__(self) -> Adding:
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def add(self, source: str, records: Sequence[Record]) -> None:
        """Takes a photo followed by its captions, or one or more captions, that came from ``source``.

        Raises RequestError, 413, where there are too many, and what the writer raises as long
        as nothing of the request has been written; after that it is the error of each document.
        """
        self._check_room(source, len(records))
        earlier: dict[str, str] = {}
        for record in records:
            if (of := self._sources.get(record.id) or earlier.get(record.id)) is not None:
                self.refuse(
                    source,
                    f"It has the id {shown(record.id)} of {of}, which came before it in this request. "
                    "The same content twice has the same id, unless ids are given.",
                    record,
                )
                return
            earlier[record.id] = source
        self._sources |= earlier
        photo: _Result | None = None
        for record in records:
            result = self._result(source, record)
            if self._broken is not None:
                result.error = self._serving.path_names.hide(str(self._broken))
                continue
            self._batch.append(_Pending(record, result, photo))
            self._batch_bytes += record.size
            if record.modality == IMAGE:
                photo = result
        if len(self._batch) >= _BATCH_DOCUMENTS or self._batch_bytes >= _BATCH_BYTES:
            await self._send()

    def refuse(self, source: str, reason: str, record: Record | None = None) -> None:
        """Records that what came from ``source`` cannot be indexed. Raises RequestError as ``add`` does."""
        self._check_room(source, 1)
        self._result(source, record).error = reason

    async def finish(self) -> None:
        """Writes what is left; raises as ``add`` does."""
        if self._batch:
            await self._send()
        await self._settle()

    async def give_up(self) -> None:
        """Waits for what is being written and writes nothing more, as the rest cannot be read."""
        for pending in self._batch:
            pending.result.error = _NEVER_SENT
        self._batch = []
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def results(self) -> list[dict[str, Any]]:
        """What became of each document, in the order in which they came, as JSON values."""
        return [asdict(result) for result in self._results]

    def counts(self) -> dict[str, int]:
        """How many were added, replaced, unchanged and failed."""
        counts = {"added": 0, "replaced": 0, "unchanged": 0, "failed": 0}
        for result in self._results:
            counts[result.outcome or "failed"] += 1
        return counts

    def _check_room(self, source: str, number: int) -> None:
        if len(self._results) + number > limits.DOCUMENTS.most:
            raise RequestError(
                f"More than {limits.DOCUMENTS.most:,} documents came in one request; what came from {source} "
                f"on was not read. Send it in another one.",
                status=413,
            )

    def _result(self, source: str, record: Record | None) -> _Result:
        result = _Result(source)
        if record is not None:
            result.id, result.modality = record.id, record.modality
        self._results.append(result)
        return result

    async def _send(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        await self._settle()
        self._writing = asyncio.create_task(self._write(batch))

    async def _settle(self) -> None:
        """Waits for the batch under way."""
        if self._writing is not None:
            # Who waits may leave; what is being written is written to its end.
            await asyncio.shield(self._writing)
            self._writing = None
        if self._broken is not None and not self.wrote:
            raise self._broken

    async def _write(self, batch: list[_Pending]) -> None:
        # A caption whose photo turns out not to be one would be found without a photo: it waits for it.
        captions = [pending for pending in batch if pending.of is not None]
        await self._write_all([pending for pending in batch if pending.of is None])
        orphans = [pending for pending in captions if pending.of is not None and pending.of.error is not None]
        for orphan in orphans:
            orphan.result.error = "It was not indexed, because the photo that it describes was not."
        await self._write_all([pending for pending in captions if pending.result.error is None])

    async def _write_all(self, batch: list[_Pending]) -> None:
        if batch and self._broken is None:
            try:
                written = await self._serving.index([pending.record for pending in batch])
            except CrossmodalError as error:
                self._broken = error
            else:
                self.wrote = True
                for pending in batch:
                    became = written[pending.record.id]
                    pending.result.outcome = became.outcome
                    pending.result.error = became.error and self._serving.path_names.hide(became.error)
                return
        for pending in batch:
            pending.result.error = self._serving.path_names.hide(str(self._broken))
