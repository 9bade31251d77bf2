"""``watch``: keeps an index true while photos come and go."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.addresses import is_address
from crossmodal.cli.index import open_all
from crossmodal.cli.index_run import IndexReport, IndexRun
from crossmodal.cli.local_engine import engine_for
from crossmodal.cli.present.console import counted
from crossmodal.cli.text_reading import TextsMeanwhile
from crossmodal.data_sets import DataSet
from crossmodal.data_sets.exclusions import IGNORE_FILE
from crossmodal.data_sets.folder import FolderOfImages
from crossmodal.data_sets.photos import looks_like_an_image
from crossmodal.engine.engine import Engine
from crossmodal.errors import CrossmodalError, DataSetError, StoreLocked
from crossmodal.metadata import is_sidecar
from crossmodal.processes import StopSignals
from crossmodal.records import below
from crossmodal.settings import Settings
from crossmodal.videos.formats import looks_like_a_video

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchfiles import Change

__all__ = ["run"]

# What changes within so many milliseconds is indexed together.
_TOGETHER_MS = 1600

# So often everything is looked through: a network disk, or a flood of changes, may tell of some of them only.
_WHOLE_SECONDS = 3600.0

# Others may write the index as soon as nothing has changed for so long.
_IDLE_SECONDS = 10.0

# So long after another process was found writing, the same is tried again.
_RETRY_SECONDS = 5.0


def run(settings: Settings) -> int:
    """Indexes the folder, and again what changes in it, until Ctrl-C or SIGTERM; returns 0.

    Raises DataSetError where there is nothing to watch, and what indexing raises at the start.
    """
    from watchfiles import watch

    data_sets, missing = open_all(settings)
    for sentence in missing:
        print(f"warning: {sentence}", file=sys.stderr, flush=True)
    roots = [data_set.root for data_set in data_sets if data_set.root is not None]
    if len(roots) < len(data_sets):
        raise DataSetError(f"{' '.join(settings.data_sets)}: there is no folder that could be watched.")
    if elsewhere := [root for root in map(str, roots) if is_address(root)]:
        raise DataSetError(
            f"{elsewhere[0]} tells of no change, so it cannot be watched; run crossmodal index by a timer."
        )
    stop = threading.Event()
    with StopSignals() as signals, engine_for(settings, writer_idle_seconds=_IDLE_SECONDS) as engine:
        watching = _Watching(engine, settings, data_sets, signals)
        # Looked at from now on, so that nothing is lost between the run and the first change.
        changes = watch(
            *roots,
            debounce=_TOGETHER_MS,
            stop_event=stop,
            yield_on_timeout=True,
            raise_interrupt=False,
            rust_timeout=500,
            watch_filter=_matters(settings.workspace, data_sets),
        )
        # It looks from its first answer on, which comes within half a second.
        missed = {path for _, path in next(changes, ())}
        watching.begin()
        watching.note(missed)
        print(f"Watching {', '.join(map(str, roots))}; Ctrl-C ends it.", file=sys.stderr, flush=True)
        for changed in changes:
            if signals.stopping:
                stop.set()
                break
            watching.note({path for _, path in changed})
        watching.close()
    return 0


class _Watching:
    """Folders, indexed as far as they change."""

    def __init__(
        self, engine: Engine, settings: Settings, data_sets: Sequence[DataSet], signals: StopSignals
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._data_sets = data_sets
        self._signals = signals
        self._waiting: set[str] = set()
        self._not_before = 0.0
        self._texts = TextsMeanwhile(engine, settings)
        self._whole_at = time.monotonic() + _WHOLE_SECONDS

    def note(self, paths: Iterable[str]) -> None:
        """Indexes what changed, and everything once an hour; tries later while another process writes.

        Otherwise it reads some of the text in photos.
        """
        self._waiting.update(paths)
        now = time.monotonic()
        if now < self._not_before:
            return
        if now >= self._whole_at:
            self._try(self.whole)
        elif self._waiting:
            self._try(self._changed)
        else:
            self._read_texts()

    def close(self) -> None:
        """Stores the text that was read."""
        self._try(self._texts.close)

    def begin(self) -> None:
        """Indexes everything, or does so later where another process writes; raises what indexing raises."""
        try:
            self.whole()
        except StoreLocked as error:
            print(f"{error} It is tried again until then.", file=sys.stderr, flush=True)
            self._whole_at = self._not_before = time.monotonic() + _RETRY_SECONDS

    def whole(self) -> None:
        """Indexes everything, and looks again for text where that could not be read."""
        self._texts.try_again()
        self._index(self._data_sets)
        self._waiting.clear()
        self._whole_at = time.monotonic() + _WHOLE_SECONDS

    def _changed(self) -> None:
        waiting = set(self._waiting)
        parts = (_changed_part(data_set, waiting) for data_set in self._data_sets)
        self._index([part for part in parts if part is not None])
        self._waiting -= waiting

    def _read_texts(self) -> None:
        try:
            self._texts.read_some()
        except StoreLocked:
            self._not_before = time.monotonic() + _RETRY_SECONDS
        except CrossmodalError as error:
            # Photos are indexed when they would have been.
            print(f"error: The text in photos cannot be read: {error}", file=sys.stderr, flush=True)

    def _try(self, index: Callable[[], None]) -> None:
        try:
            index()
        except StoreLocked:
            self._not_before = time.monotonic() + _RETRY_SECONDS
        except CrossmodalError as error:
            # An hour later, or with the next change, it may go.
            self._waiting.clear()
            self._whole_at = time.monotonic() + _WHOLE_SECONDS
            print(f"error: {error}", file=sys.stderr, flush=True)

    def _index(self, data_sets: Sequence[DataSet]) -> None:
        run = IndexRun(self._engine, data_sets, self._settings, self._signals)
        run.through(quiet=True)
        self._texts.wake()
        report = run.report
        if line := ", ".join(_said(report)):
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
        for failure in report.failures:
            print(f"{failure['source']}: {failure['reason']}", file=sys.stderr, flush=True)
        for sentence in report.kept:
            print(f"warning: {sentence}", file=sys.stderr, flush=True)


def _matters(workspace: Path, data_sets: Sequence[DataSet]) -> Callable[[Change, str], bool]:
    """Says of a path that changed whether that can matter: what the index itself writes never does."""
    own = {str(workspace.absolute()), str(workspace.resolve())}
    origins = {data_set.origin for data_set in data_sets}

    def matters(change: Change, path: str) -> bool:
        name = path.rpartition("/")[2]
        if any(below(folder, path) is not None for folder in own):
            return False
        if looks_like_an_image(name) or looks_like_a_video(name) or is_sidecar(name):
            return True
        if name == IGNORE_FILE or path in origins:
            return True
        # A folder, or what is gone and may have been one.
        return not os.path.isfile(path)  # noqa: PTH113  (bare text)

    return matters


def _said(report: IndexReport) -> Iterator[str]:
    for what, counts in (("photo", report.photos), ("caption", report.captions)):
        for outcome in ("added", "replaced", "moved", "copied", "restored", "deleted"):
            if count := getattr(counts, outcome):
                yield f"{counted(count, what)} {'changed' if outcome == 'replaced' else outcome}"


def _changed_part(data_set: DataSet, paths: Iterable[str]) -> DataSet | None:
    """The part of a folder that holds what changed, all of another data set; None where nothing did."""
    root = str(data_set.root)
    inside = [path for path in paths if below(root, path)]
    if not inside:
        return None
    common = os.path.commonpath(inside)
    # The innermost folder that is there.
    while common != root and not os.path.isdir(common):  # noqa: PTH112  (bare text)
        common = os.path.dirname(common)  # noqa: PTH120
    if type(data_set) is not FolderOfImages or common == root:
        return data_set
    return data_set.below(Path(common))
