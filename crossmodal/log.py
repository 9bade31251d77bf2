"""Lines of the server's log: text or JSON, one write a line, with the ids of the requests they are about."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from crossmodal.request_ids import REQUEST_IDS

__all__ = ["REQUEST_LOGGER", "open_log"]

# Lines about requests: what was asked, by whom, and what came of it.
REQUEST_LOGGER = "crossmodal.requests"

# What needs no quotes in a line of text.
_PLAIN = re.compile(r"[A-Za-z0-9_.:/{}@+*~-]+")


def open_log(kind: str) -> None:
    """Sends what this process logs to stderr: ``kind`` is "text" or "json", or "off" for warnings alone."""
    # Its lines are short of what a pipe takes at once, so those of several processes don't mix.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if kind == "json" else _TextFormatter())
    for name in ("crossmodal", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    logging.getLogger(REQUEST_LOGGER).setLevel(logging.WARNING if kind == "off" else logging.INFO)


def _time_of(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """The record's own fields, and whose work it was logged in where that isn't among them."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    if "id" not in fields and (ids := REQUEST_IDS.get()):
        fields = {**fields, "id": ids[0]} if len(ids) == 1 else {**fields, "ids": list(ids)}
    return fields


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = [f"{_time_of(record)} {record.levelname.lower()}: {record.getMessage()}"]
        parts += [f"{name}={_text(value)}" for name, value in _fields_of(record).items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time_of(record), "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**line, **_fields_of(record)}, default=str)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, separators=(",", ":"), default=str)
