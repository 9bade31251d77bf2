"""What an index of many photos takes: bytes, memory, milliseconds, hours and money.

Bytes follow from the formats in ``crossmodal/index/embedded``, times from what one machine was measured
to do.
``python -m bench.scaling`` prints the tables of docs/scaling.md; its flags change sizes and prices.
``python -m bench scaling`` holds the predictions against what is measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Any

from crossmodal.index.embedded.candidate_search import FIRST_RESULTS
from crossmodal.index.embedded.codes import CELL_ROUNDS, cells_of, coded_components, training_size
from crossmodal.index.embedded.compared import EXTRA
from crossmodal.index.embedded.options import EXACT, SearchOptions, subquantizers, suitable_tier
from crossmodal.index.embedded.schema import PAGE_BYTES

__all__ = [
    "MODELLED",
    "Cost",
    "Machine",
    "Prices",
    "Shard",
    "Size",
    "cost",
    "disk",
    "growth",
    "main",
    "plans",
    "shards_of",
    "vector_row_bytes",
]

# What ``--index auto`` chooses from: the others are there to compare with.
MODELLED = (EXACT, "scan", "coarse", "ivf")

_FLOAT, _NUMBER = 4, 8
_ID_BYTES = 20

# Of SQLite: a page's header; what a row of a vector table has beside vector and id (header of the record,
# checksum, length, row number, its place in the page), the hubness being 0.
_PAGE_HEADER = 8
_ROW_BYTES = 22

# faiss scans so many codes at once, and fills up the last ones of each cell.
_CODES_AT_ONCE = 32

# The self-check compares so many queries with all vectors.
_CHECKED = 64

_HOURS_A_MONTH = 730

_AUTO = SearchOptions()


@dataclass(frozen=True, slots=True)
class Machine:
    """What one core does. By default that of docs/scaling.md; ``bench scaling`` measures its own.

    ``opened_mb`` and ``query_ms``: what an index and a query take beside what grows.
    ``cached_us`` and ``candidate_us``: comparing one candidate whose vector is in the processor's cache of
    ``cache_mb``, and in memory; ``read_ms``: fetching it from a disk (an NVMe's, not measured). Codes are
    scanned all, or in ``cells``; operations a second are those of the self-check and of matrices.
    """

    opened_mb: float = 3.0
    query_ms: float = 0.23
    cached_us: float = 0.42
    candidate_us: float = 0.6
    cache_mb: float = 32.0
    codes_gb_s: float = 12.5
    cells_gb_s: float = 5.0
    vectors_gb_s: float = 20.0
    coded_ns: float = 31.0
    training_s: float = 0.9
    checked_gflops: float = 10.0
    product_gflops: float = 88.0
    written_mb_s: float = 80.0
    read_ms: float = 0.1
    stored_a_s: float = 5900.0
    photos_a_s: float = 77.0
    captions_a_s: float = 390.0


@dataclass(frozen=True, slots=True)
class Size:
    """An index: ``photos`` with ``captions`` each, both in ``shards``; bytes of a photo are measured means.

    Those of a record are what ``index.sqlite`` has of it beside its vector: fields, tags, words, indexes.
    """

    photos: int = 0
    captions: float = 1.0
    dimension: int = 512
    tier: str = "auto"
    shards: int = 1
    photo_record: int = 1200
    caption_record: int = 500
    thumbnail: int = 17_700
    original: int = 0

    @property
    def parts(self) -> tuple[int, ...]:
        """The vectors of photos, and those of captions."""
        return tuple(count for count in (self.photos, round(self.photos * self.captions)) if count)


@dataclass(frozen=True, slots=True)
class Shard:
    """``count`` vectors that are searched together by ``options``; times on one core of a ``Machine``."""

    count: int
    dimension: int = 512
    options: SearchOptions = _AUTO

    @property
    def tier(self) -> str:
        """What answers, if it finds enough; raises ValueError for one that isn't modelled."""
        found = suitable_tier(self.options, self.count, self.dimension)
        if found not in MODELLED:
            raise ValueError(f"{found!r} isn't modelled; the model knows {', '.join(MODELLED)}.")
        return found

    @property
    def cells(self) -> int:
        """Cells of an IVF, 0 without."""
        return cells_of(self.options, self.count) if self.tier == "ivf" else 0

    @property
    def probes(self) -> int:
        """Cells that a search looks into."""
        return self.options.probes or max(1, self.cells // 8)

    @property
    def components(self) -> int:
        """Numbers of each vector that are coded."""
        return coded_components(self.tier, self.count, self.dimension + EXTRA)

    @property
    def compared_bytes(self) -> int:
        """Of a vector with its hubness, as it is compared."""
        return _FLOAT * (self.dimension + EXTRA)

    @property
    def candidates(self) -> int:
        """Vectors that a search compares exactly."""
        return min(self.count, self.options.rerank * (FIRST_RESULTS + 1))

    @property
    def code_bytes(self) -> int:
        """Of one code: four bits for each part of the vector, in whole bytes."""
        return (subquantizers(self.components) + 1) // 2

    @property
    def codes_disk(self) -> int:
        """Bytes of the file of codes."""
        if self.tier == EXACT:
            return 0
        row = _NUMBER + self.code_bytes + (_NUMBER if self.cells else 0)
        partly_filled = self.cells * _CODES_AT_ONCE // 2 * self.code_bytes
        centres = (self.cells + 16) * self.components * _FLOAT
        turned = (self.components * (self.dimension + EXTRA) * _FLOAT) * (self.tier != "scan")
        return self.count * row + partly_filled + centres + turned

    @property
    def vectors_disk(self) -> int:
        """Bytes of the derived file of vectors, which is mapped: a row number, an id, its end too."""
        return self.count * (self.compared_bytes + 2 * _NUMBER + _ID_BYTES)

    def memory(self, machine: Machine) -> float:
        """Anonymous bytes: those of the codes, which are read from their file, and of an open index."""
        return machine.opened_mb * 1e6 + self.codes_disk

    def scan_ms(self, machine: Machine) -> float:
        """Comparing one query with all codes, or with those of the cells that it looks into.

        In cells they are scanned at less than half the rate: the cells near queries are larger than others.
        """
        if self.tier == EXACT:
            return 0.0
        if self.cells:
            share = self.probes / self.cells
            return self.count * self.code_bytes * share / machine.cells_gb_s / 1e6
        return self.count * self.code_bytes / machine.codes_gb_s / 1e6

    def query_ms(self, machine: Machine, in_memory: float = 1.0) -> float:
        """One query, of whose candidates the share ``in_memory`` needs no read from the disk."""
        whole = self.count * self.compared_bytes
        if self.tier == EXACT:
            return machine.query_ms + whole / machine.vectors_gb_s / 1e6
        centres = self.cells * self.components * _FLOAT
        cached = min(1.0, machine.cache_mb * 1e6 / whole)
        candidate_us = cached * machine.cached_us + (1 - cached) * machine.candidate_us
        return (
            machine.query_ms
            + self.scan_ms(machine)
            + centres / machine.vectors_gb_s / 1e6
            + self.candidates * (candidate_us / 1e3 + (1 - in_memory) * machine.read_ms)
        )

    def write_s(self, machine: Machine) -> float:
        """Writing the derived file of vectors."""
        return self.vectors_disk / machine.written_mb_s / 1e6

    def build_s(self, machine: Machine) -> float:
        """Training, coding and the self-check."""
        if self.tier == EXACT:
            return 0.0
        coded = self.count * machine.coded_ns * self.components / 1e9
        sample = training_size(self.tier, self.options, self.count)
        placed = 2 * self.cells * self.components * (self.count + CELL_ROUNDS * sample)
        return machine.training_s + coded + placed / machine.product_gflops / 1e9 + self.check_s(machine)

    def check_s(self, machine: Machine) -> float:
        """The self-check alone: exact search of its queries."""
        return 2 * _CHECKED * self.count * (self.dimension + EXTRA) / machine.checked_gflops / 1e9


def vector_row_bytes(dimension: int) -> float:
    """Bytes on disk of a row of a vector table, to which rows are added at the end, so that pages fill up."""
    cell = _FLOAT * dimension + _ID_BYTES + _ROW_BYTES
    rows = (PAGE_BYTES - _PAGE_HEADER) // cell
    return PAGE_BYTES / rows if rows else ceil(cell / PAGE_BYTES) * PAGE_BYTES


def shards_of(size: Size) -> list[Shard]:
    """The shards of photos and those of captions."""
    options = SearchOptions.of(size.tier)
    return [
        Shard(ceil(count / size.shards), size.dimension, options)
        for count in size.parts
        for _ in range(size.shards)
    ]


def disk(size: Size) -> dict[str, float]:
    """Bytes on disk, by kind; the first two are ``index.sqlite`` without bytes of photos."""
    count = sum(size.parts)
    shards = shards_of(size)
    return {
        "records": size.photos * size.photo_record + (count - size.photos) * size.caption_record,
        "vectors": count * vector_row_bytes(size.dimension),
        "thumbnails": size.photos * size.thumbnail,
        "originals": size.photos * size.original,
        "derived vectors": sum(shard.vectors_disk for shard in shards),
        "codes": sum(shard.codes_disk for shard in shards),
    }


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars, as an example: an hour of one core and of a GB of memory, a month of a GB on an NVMe and in an
    object store, an hour of a machine that encodes ``gpu_photos_a_s``, which nobody has measured either."""

    core_hour: float = 0.04
    memory_gb_hour: float = 0.005
    disk_gb_month: float = 0.08
    object_gb_month: float = 0.023
    gpu_hour: float = 1.0
    gpu_photos_a_s: float = 1000.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Hours of encoding and their dollars; cores; bytes in memory, on NVMe, stored; dollars a month."""

    encoder_hours: float
    encoding: float
    cores: int
    memory: float
    local: float
    stored: float
    month: float


def cost(
    size: Size, machine: Machine, prices: Prices, queries_a_s: float, replicas: int, in_memory: float
) -> Cost:
    """Encoding with a GPU; ``replicas`` of all shards on as many cores as ``queries_a_s`` keep half busy,
    with the share ``in_memory`` of the vectors in memory, and bytes of photos in an object store."""
    shards = shards_of(size)
    hours = sum(size.parts) / prices.gpu_photos_a_s / 3600
    # A query looks for one modality, so that of two parts half the shards answer.
    busy = sum(shard.query_ms(machine) for shard in shards) / len(size.parts) * queries_a_s / 1e3
    cores = max(ceil(2 * busy), replicas * len(shards))
    memory = replicas * sum(shard.memory(machine) + in_memory * shard.vectors_disk for shard in shards)
    found = disk(size)
    local = replicas * (found["derived vectors"] + found["codes"]) + found["records"] + found["vectors"]
    stored = found["thumbnails"] + found["originals"]
    month = _HOURS_A_MONTH * (cores * prices.core_hour + memory / 1e9 * prices.memory_gb_hour)
    month += local / 1e9 * prices.disk_gb_month + stored / 1e9 * prices.object_gb_month
    return Cost(hours, hours * prices.gpu_hour, cores, memory, local, stored, month)


def _count(number: int) -> str:
    power = len(str(number)) - 1
    return f"10^{power}" if number == 10**power else f"{number:,}"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} PB"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} s"


# The sizes of docs/scaling.md, and its plans: photos, shards of each modality, share of vectors in memory.
GROWTH = tuple(10**power for power in range(4, 11))
PLANS = ((10**8, 5, 1.0), (10**8, 20, 1.0), (10**8, 20, 0.0), (10**10, 2000, 1.0), (10**10, 2000, 0.0))

_KINDS: tuple[Any, ...] = (Size, Machine, Prices)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.{1 if milliseconds < 100 else 0}f} ms"


def growth(size: Size, machine: Machine, photos: Sequence[int]) -> str:
    """A Markdown table of what grows with the number of photos."""
    kinds = ("records", "vectors", "thumbnails", "derived vectors", "codes")
    lines = [
        f"| photos | tier | {' | '.join(kinds)} | memory | one query | building | storing | encoding |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for count in photos:
        whole = replace(size, photos=count)
        shards, found = shards_of(whole), disk(whole)
        captions, memory = sum(whole.parts) - count, sum(shard.memory(machine) for shard in shards)
        lines.append(
            f"| {_count(count)} | `{shards[0].tier}` | {' | '.join(_bytes(found[kind]) for kind in kinds)}"
            f" | {_bytes(memory)} | {_ms(shards[0].query_ms(machine))}"
            f" | {_time(sum(shard.write_s(machine) + shard.build_s(machine) for shard in shards))}"
            f" | {_time((count + captions) / machine.stored_a_s)}"
            f" | {_time(count / machine.photos_a_s + captions / machine.captions_a_s)} |"
        )
    return "\n".join(lines)


def plans(
    size: Size,
    machine: Machine,
    prices: Prices,
    wanted: Sequence[tuple[int, int, float]],
    *,
    queries_a_s: float,
    replicas: int,
) -> str:
    """A Markdown table of plans, each for (photos, shards of each modality, share of vectors in memory)."""
    lines = [
        "| photos | shards | a shard | vectors in memory | one query | cores | memory | NVMe | object store"
        " | encoding | a month |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for photos, shards, in_memory in wanted:
        whole = replace(size, photos=photos, shards=shards)
        shard, plan = shards_of(whole)[0], cost(whole, machine, prices, queries_a_s, replicas, in_memory)
        lines.append(
            f"| {_count(photos)} | {len(whole.parts)} x {shards} | {shard.count:,}, `{shard.tier}`"
            f" | {in_memory:.0%} | {_ms(shard.query_ms(machine, in_memory))} | {plan.cores:,}"
            f" | {_bytes(plan.memory)} | {_bytes(plan.local)} | {_bytes(plan.stored)}"
            f" | {plan.encoder_hours:,.0f} h, ${plan.encoding:,.0f} | ${plan.month:,.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables of docs/scaling.md, or with ``--photos`` those of one size; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description="What many photos take.")
    parser.add_argument("--in-memory", type=float, default=1.0, help="the share of vectors (default 1)")
    parser.add_argument("--replicas", type=int, default=2, help="of every shard (default 2)")
    parser.add_argument("--queries", type=float, default=100.0, help="a second (default 100)")
    for field in (each for kind in _KINDS for each in fields(kind)):
        # A number such as 3e8 is whole all the same.
        read = str if isinstance(field.default, str) else float
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=read, default=field.default, help=f"default {field.default}")
    given = vars(parser.parse_args(arguments))
    for field in fields(Size):
        if isinstance(field.default, int):
            given[field.name] = int(given[field.name])
    size, machine, prices = (
        kind(**{each.name: given[each.name] for each in fields(kind)}) for kind in _KINDS
    )
    one = size.photos > 0
    wanted = [(size.photos, size.shards, given["in_memory"])] if one else PLANS
    print(growth(size, machine, [size.photos] if one else GROWTH), end="\n\n")
    print(plans(size, machine, prices, wanted, queries_a_s=given["queries"], replicas=given["replicas"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
