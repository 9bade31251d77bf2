"""Photos below an address that fsspec opens, or in shards on this machine: the one reader of both."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice

from crossmodal.addresses import Entry, entries_of, is_address, read_address
from crossmodal.data_sets.beside import signature_of
from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.exclusions import IGNORE_FILE, Exclusions
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.passed_over import PassedOver
from crossmodal.data_sets.photos import Photo, looks_like_an_image, photo_at, photo_of
from crossmodal.data_sets.prepared import LeftOut, Source
from crossmodal.data_sets.shards import MOST_SAID, Sample, holds_photos, is_shard, read_shard, said_beside
from crossmodal.data_sets.values import has_lone_surrogate
from crossmodal.errors import DataError
from crossmodal.records import Failure, LocalFile

__all__ = ["LAST", "Collection", "read_source"]

# Photos that are read at once where each takes its time, and how many wait for those before them.
_READERS = 8
_AHEAD = 16

# How many members a shard has stands with the last of them, so that a shard that is whole in the index is
# known.
LAST = ",of:"

# Two slashes stand in the index between a root and what lies below it.
_NAMELESS = (
    "has a folder without a name (//) in its address, which cannot be noted, so that nothing there is read; "
    "move it to an address without"
)


class Collection(DataSet):
    """Every photo below ``root``, an address or the path of a folder, and those in the shards there.

    With ``only``, nothing but that file. A photo takes its caption from the text of its name beside it,
    ``1.jpg`` and ``1.txt``, and caption and tags from the JSON; img2dataset writes both. Ignore files are not
    read at an address.
    """

    lists_all = True

    def __init__(
        self,
        name: str,
        root: str,
        *,
        limits: Limits,
        content: bool,
        exclude: Sequence[str] = (),
        only: Entry | None = None,
    ) -> None:
        super().__init__(
            name, f"photos and shards {only.address if only else f'below {root}'}", limits, content
        )
        self.root = root
        # Between origins stand two slashes.
        self.origin = (only.address if only else root).replace("://", ":/")
        self.walks = only is None
        self._only = only
        self._exclude = tuple(exclude)
        self._place = LocalFile(root, "")
        self._left_out: LeftOut = Counter()

    def mentions(self) -> Iterator[Mention | Failure]:
        """All of them, read in this process, some photos at once."""
        yield from self.noted(_expanded(self.sources(), self.limits))

    def sources(self) -> Iterator[Source | Mention | Failure]:
        """What there is to read, and of what is known already the photos alone."""
        self._place = self.place_of(str(self.root))
        self._left_out = Counter()
        passed_over = PassedOver()
        for item in self._one(self._only) if self._only is not None else self._walk(passed_over):
            if isinstance(item, Source) and self.known is not None:
                yield from self._known(item) or (item,)
            else:
                yield item
        if self._only is None:
            self.notes += passed_over.notes(str(self.root), self._exclude)
            # What a pattern leaves out is there all the same.
            self.walked = not passed_over.unreadable and not self._exclude and not self.broken

    def noted(self, items: Iterator[Mention | Failure | LeftOut]) -> Iterator[Mention | Failure]:
        """The items of ``read_source`` without what was left out, which the notes then have."""
        for item in items:
            if isinstance(item, Counter):
                self._left_out.update(item)
            else:
                yield item
        if self._left_out:
            endings = ", ".join(f"{count:,} {ending}" for ending, count in self._left_out.most_common())
            self.notes.append(f"{self.root}: passed over in shards what is no photo ({endings})")

    def len_hint(self) -> int | None:
        return None

    def _known(self, source: Source) -> list[Mention]:
        """The photos of a source that is as it was when it was read; none where it has to be read."""
        assert self.known is not None
        if not source.is_shard:
            known = self.known.photo_in(source.local) is not None
            return [Mention(source.address, source.address, local=source.local)] if known else []
        return [
            Mention(file.absolute, source.address, local=file)
            for file in self.known.inside(source.local) or ()
        ]

    def _one(self, only: Entry) -> Iterator[Source]:
        yield self._source(only, ())

    def _walk(self, passed_over: PassedOver) -> Iterator[Source | Failure]:
        root = str(self.root)
        waiting = [(root, Exclusions.below(root, self._exclude))]
        while waiting:
            folder, exclusions = waiting.pop()
            try:
                entries = entries_of(folder)
            except DataError as error:
                passed_over.unreadable += 1
                yield Failure(folder, str(error))
                continue
            kept, folders = list[Entry](), list[Entry]()
            for entry in entries:
                if "//" in entry.address.partition("://")[2]:
                    yield Failure(entry.address, _NAMELESS)
                    continue
                rule = exclusions.rule_for(entry.name, entry.address, is_folder=entry.is_folder)
                if rule is not None:
                    passed_over.left_out(rule, is_folder=entry.is_folder)
                else:
                    (folders if entry.is_folder else kept).append(entry)
            yield from self._sources_of(kept, passed_over)
            waiting += [(entry.address, exclusions) for entry in reversed(folders)]

    def _sources_of(self, entries: Sequence[Entry], passed_over: PassedOver) -> Iterator[Source | Failure]:
        """What the files of one folder are to be read as."""
        stems = {entry.name.rpartition(".")[0] for entry in entries if looks_like_an_image(entry.name)}
        tars = {_stem(entry.name) for entry in entries if is_shard(entry.name) and not _is_parquet(entry)}
        beside: dict[str, list[Entry]] = {}
        for entry in entries:
            if said_beside(entry.name) is not None and entry.name.rpartition(".")[0] in stems:
                beside.setdefault(entry.name.rpartition(".")[0], []).append(entry)
        said = {entry.address for each in beside.values() for entry in each}
        for entry in entries:
            if looks_like_an_image(entry.name):
                yield self._source(entry, beside.get(entry.name.rpartition(".")[0], ()))
            elif is_shard(entry.name):
                # Beside its tar shards img2dataset writes the same without the photos.
                if _is_parquet(entry) and (_stem(entry.name) in tars or self._describes(entry)):
                    passed_over.file(entry.address)
                else:
                    yield self._source(entry, ())
            elif entry.name != IGNORE_FILE and entry.address not in said:
                passed_over.file(entry.address)

    def _describes(self, entry: Entry) -> bool:
        """Whether a file of Parquet says something of photos and has none, as beside folders of photos."""
        try:
            return not holds_photos(entry.address)
        except DataError:
            # Reading it says why.
            return False

    def _source(self, entry: Entry, beside: Sequence[Entry]) -> Source:
        root = str(self.root)
        inside = entry.address[len(root) :].lstrip("/")
        if is_address(root):
            signatures = [each.signature for each in (entry, *beside)]
        else:
            signatures = [signature_of(each.address) for each in (entry, *beside)]
        path = f"{self._place.path}/{inside}".lstrip("/")
        local = LocalFile(self._place.root, path, " ".join(signatures) if all(signatures) else "")
        said = tuple((each.address, each.size) for each in beside)
        return Source(entry.address, local, entry.size, is_shard(entry.name), said)


def read_source(source: Source, limits: Limits) -> Iterator[Mention | Failure | LeftOut]:
    """The photos of a source, with their bytes; one that cannot be read comes as a mention that says why."""
    if source.is_shard:
        yield from _members(source, limits)
        return
    sample = Sample(source.address.rpartition(".")[0])
    try:
        read = photo_at(source.address, source.size, max_bytes=limits.max_file_bytes)
        for address, size in source.beside:
            ending = said_beside(address)
            assert ending is not None, "what says something of a photo is told by its ending"
            sample.say(ending, read_address(address, 0, min(size or 0, MOST_SAID)))
    except DataError as error:
        yield Mention(source.address, source.address, local=source.local, refused=str(error))
        return
    for failure in sample.failures:
        yield Failure(source.address, failure)
    yield Mention(
        source.address, source.address, tuple(sample.captions), sample.tags, local=source.local, read=read
    )


def _members(source: Source, limits: Limits) -> Iterator[Mention | Failure | LeftOut]:
    left_out: LeftOut = Counter()
    names: set[str] = set()
    # One behind, so that the last one is known.
    waiting: Mention | None = None
    whole = True
    for sample in read_shard(source.address, max_bytes=limits.max_file_bytes):
        if isinstance(sample, Failure):
            whole = False
            yield sample
            continue
        where = f"{source.address}, {sample.key}"
        left_out.update(sample.left_out)
        if not sample.photos and not sample.failures:
            yield Failure(where, f"it has no photo, only {', '.join(sample.left_out) or 'words'}")
        for failure in sample.failures:
            yield Failure(where, failure)
        for photo in sample.photos:
            if waiting is not None:
                yield waiting
            # Two slashes stand between a root and what lies below it.
            name = re.sub("/+", "/", photo.name).strip("/")
            names.add(name)
            local = source.local.inside(name, photo.position)
            read: Photo | None = None
            refused = photo.refused
            if has_lone_surrogate(name):
                refused = f"the name {name} is not valid UTF-8"
            if photo.content is not None:
                read = photo_of(local.absolute, photo.content)
                refused = refused or (None if photo.content else f"{name} is empty")
            waiting = Mention(
                local.absolute,
                where,
                tuple(sample.captions),
                sample.tags,
                local=local,
                read=read if refused is None else None,
                refused=refused,
            )
    if waiting is not None:
        yield _marked(waiting, len(names)) if whole else waiting
    yield left_out


def _marked(last: Mention, count: int) -> Mention:
    """The last photo of a shard, which says how many there are."""
    assert last.local is not None
    position, inside, signature = last.local.signature.partition(" ")
    if not inside:
        return last
    return replace(last, local=replace(last.local, signature=f"{position}{LAST}{count} {signature}"))


def _expanded(
    sources: Iterable[Source | Mention | Failure], limits: Limits
) -> Iterator[Mention | Failure | LeftOut]:
    """Reads the sources in their order, single photos some ahead."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="reading") as readers:
        waiting: deque[Callable[[], Iterable[Mention | Failure | LeftOut]]] = deque()
        items = iter(sources)
        try:
            while True:
                for item in islice(items, _AHEAD - len(waiting)):
                    if not isinstance(item, Source):
                        waiting.append(partial(_only, item))
                    elif item.is_shard:
                        waiting.append(partial(read_source, item, limits))
                    else:
                        waiting.append(readers.submit(_read_all, item, limits).result)
                if not waiting:
                    return
                yield from waiting.popleft()()
        finally:
            readers.shutdown(cancel_futures=True)


def _only(item: Mention | Failure) -> tuple[Mention | Failure]:
    return (item,)


def _read_all(source: Source, limits: Limits) -> list[Mention | Failure | LeftOut]:
    return list(read_source(source, limits))


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _is_parquet(entry: Entry) -> bool:
    return entry.name.lower().endswith(".parquet")
