"""Moments as cameras, programs and file names write them, to ISO 8601 of the local time.

``2019-07-04T12:34:56+02:00``, without the zone or the time where none is known: so they sort, and compare, by
the local time, as text.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

__all__ = [
    "from_exif",
    "from_file_time",
    "from_iptc",
    "from_iso",
    "from_name",
    "from_timestamp",
    "same_moment",
]

_EXIF = re.compile(r"\s*(\d{4})[:\-/.](\d\d)[:\-/.](\d\d)(?:[ T]+(\d\d):(\d\d)(?::(\d\d))?)?")
_ZONE = re.compile(r"\s*(Z|[+-]\d\d:?\d\d)")
_ISO = re.compile(
    r"\s*(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?)?\s*"
)
# A date that is no part of a longer number, and a time behind it: IMG_20190704_123456, 2019-07-04 12.34.56,
# "2019-07-04 at 3.12.45 PM", 20190704123456. Behind the seconds there may be thousandths.
_NAMED = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:[ T_\-.,]*(?:[^\W\d_]{1,3}[ _])?([01]\d|2[0-3]|\d(?=[.:]))[.:\-_h]?([0-5]\d)[.:\-_m]?([0-5]\d)"
    r"(?:[.\-_]?\d{3})?(?!\d)(?:\s*([AaPp])[Mm]\b)?|(?!\d))"
)
# Milliseconds since 1970, as Facebook and some phones name files.
_MILLISECONDS = re.compile(r"(?:FB_IMG_|received_|^)(1[0-9]{12})(?!\d)")
# Pixel phones write UTC.
_IN_UTC = re.compile(r"PXL_\d{8}_\d{9}")

_LONGEST = 100
# Zones are between -12 and +14 hours, and whole quarters of an hour.
_FARTHEST = timedelta(hours=14)
_QUARTER = timedelta(minutes=15)


def from_exif(value: object, zone: object = None) -> str | None:
    """``2019:07:04 12:34:56`` and a zone such as ``+02:00``; None where it is no date."""
    if not isinstance(value, str) or not (found := _EXIF.match(value[:_LONGEST])):
        return None
    zoned = _ZONE.match(zone[:_LONGEST]) if isinstance(zone, str) else None
    year, month, day, hour, minute, second = found.groups()
    return _moment(year, month, day, hour, minute, second, zoned[1] if zoned else None)


def from_iso(value: object) -> str | None:
    """ISO 8601, as XMP has it; None where it is none, or not even a day."""
    if not isinstance(value, str) or not (found := _ISO.fullmatch(value[:_LONGEST])):
        return None
    return _moment(*found.groups())


def from_iptc(date: str, time: str) -> str | None:
    """``20190704`` and ``123456+0200``, which may be empty; None where it is no date."""
    if not re.fullmatch(r"\d{8}", date):
        return None
    found = re.match(r"(\d\d)(\d\d)(\d\d)([+-]\d{4})?", time)
    return _moment(date[:4], date[4:6], date[6:], *(found.groups() if found else ()))


def from_name(name: str) -> str | None:
    """The date in the name of a file, with the time where it has one; None where it has none."""
    for found in _NAMED.finditer(name):
        year, _, month, day, hour, minute, second, half = found.groups()
        if half and hour:
            hour = str(int(hour) % 12 + 12 * (half in "Pp"))
        zone = "Z" if _IN_UTC.match(name, max(found.start() - len("PXL_"), 0)) else None
        if moment := _moment(year, month, day, hour, minute, second, zone):
            return moment
    found_number = _MILLISECONDS.search(name)
    return from_timestamp(int(found_number[1]) // 1000) if found_number else None


def from_timestamp(seconds: str | int) -> str | None:
    """Seconds since 1970, in UTC, with that zone; None for 0 and for what is no moment."""
    try:
        number = int(str(seconds)[:_LONGEST])
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number)).isoformat() if number else None
    except (ValueError, OverflowError):
        return None


def from_file_time(seconds: float) -> str | None:
    """When a file was changed, seconds since 1970, in this machine's zone."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def same_moment(one: str, other: str) -> bool:
    """Whether two moments may be the same, one of them or both without a zone, to two seconds."""
    left, right = datetime.fromisoformat(one), datetime.fromisoformat(other)
    if left.tzinfo and right.tzinfo:
        return abs(left - right) <= timedelta(seconds=2)
    apart = abs(left.replace(tzinfo=None) - right.replace(tzinfo=None))
    beside = apart % _QUARTER
    return apart <= _FARTHEST and min(beside, _QUARTER - beside) <= timedelta(seconds=2)


def _moment(
    year: str,
    month: str,
    day: str,
    hour: str | None = None,
    minute: str | None = None,
    second: str | None = None,
    zone: str | None = None,
) -> str | None:
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), min(int(second or 0), 59)
        )
        if hour is None:
            return moment.date().isoformat()
        return moment.replace(tzinfo=_zone(zone) if zone else None).isoformat()
    except ValueError:
        # 0000:00:00, 2019-02-30 and the like: a camera without a clock.
        return None


def _zone(zone: str) -> timezone:
    if zone == "Z":
        return UTC
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return timezone(-offset if zone[0] == "-" else offset)
