"""The records that a run learns from and is measured on, out of the data sets that its settings name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from crossmodal.data_sets import open_data_set
from crossmodal.records import IMAGE, TEXT, Failure, Record
from crossmodal.training.config import MoreData, TrainingConfig
from crossmodal.training.pairs import hold_out, least_share

__all__ = ["dev_records", "training_records"]

Records = Iterable[Record | Failure]


def training_records(config: TrainingConfig, data_root: Path) -> Records:
    """Those of ``data`` that are not held out, then those of ``more``. Raises DataSetError."""
    own = _split(config, data_root, config.train_split)
    if config.dev_split is None:
        own = hold_out(own, _share(config, data_root), held_out=False)
    return chain(own, *(_of(more, data_root) for more in config.more))


def dev_records(config: TrainingConfig, data_root: Path) -> Records:
    """Those of ``data`` that are held out. Raises DataSetError."""
    if config.dev_split is not None:
        return _split(config, data_root, config.dev_split)
    own = _split(config, data_root, config.train_split)
    return hold_out(own, _share(config, data_root), held_out=True)


def _split(config: TrainingConfig, data_root: Path, split: str | None) -> Records:
    return islice(open_data_set(config.data, data_root=data_root, split=split), config.num_docs)


def _share(config: TrainingConfig, data_root: Path) -> float:
    return least_share(_split(config, data_root, config.train_split), config.dev_share)


def _of(more: MoreData, data_root: Path) -> Records:
    records = open_data_set(more.data, data_root=data_root, split=more.split)
    return records if more.tag is None else _captioned(records, more.tag, more.templates)


def _captioned(records: Records, tag: str, templates: tuple[str, ...]) -> Iterator[Record | Failure]:
    """Only photos, each with captions made of its ``tag``, if it has that."""
    for record in records:
        if isinstance(record, Failure):
            yield record
        elif record.modality == IMAGE:
            yield record
            if (value := record.tags.get(tag)) is not None:
                for number, template in enumerate(templates):
                    text = template.replace("{}", str(value))
                    yield Record(f"{record.id}-{number}", TEXT, text=text, photo_id=record.id)
