"""Which photos and captions are gallery and queries: those of published protocols, or the whole data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossmodal.errors import DataSetError, SettingsError
from crossmodal.evaluation.retrieval import Subset
from crossmodal.records import IMAGE, Failure, Record

__all__ = [
    "ORIGINAL",
    "PROTOCOLS",
    "WHOLE",
    "Listing",
    "Protocol",
    "choose",
    "list_records",
    "shared_captions",
]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How an evaluation is put together.

    ``photos`` is the number of photos that the data must have, None for any; ``captions`` how many of each
    photo's captions are used, the first ones, and each photo must have as many, None for all that there are.
    The photos are cut in ``folds`` of equal size, in the data set's order, and each is a gallery of its own.
    With ``pairs`` only the first so many documents are searched, and ``-n`` of them are queries. ``source``
    says where it is from, and what had to be chosen here.
    """

    name: str
    source: str
    photos: int | None = None
    captions: int | None = None
    folds: int = 1
    pairs: bool = False


WHOLE = Protocol("whole", "every photo and every caption of the data, or of its split")

ORIGINAL = Protocol(
    "original",
    "the MRR table of jina's cross-modal search example, as far as its source shows: of each photo with its "
    "first caption, the first NUM_INDEXED documents (photos and captions counted together) are searched and "
    "the first NUM_QUERIES of each modality ask; relevance goes by photo. The example shuffled without a "
    "seed, took all splits together and compared captions by their text",
    captions=1,
    pairs=True,
)
_ORIGINAL_INDEXED = 16_000
_ORIGINAL_QUERIES = 4_000

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        WHOLE,
        Protocol(
            "flickr8k-1k",
            "Hodosh, Young and Hockenmaier, Framing image description as a ranking task (2013): the 1,000 "
            "photos of the test or of the dev split with 5 captions each",
            photos=1_000,
            captions=5,
        ),
        Protocol(
            "flickr30k-1k",
            "Karpathy and Fei-Fei (2015): the 1,000 photos of their test or val split with 5 captions each",
            photos=1_000,
            captions=5,
        ),
        Protocol(
            "coco-5k",
            "Karpathy and Fei-Fei (2015): the 5,000 photos of their test or val split with the first 5 "
            "captions each",
            photos=5_000,
            captions=5,
        ),
        Protocol(
            "coco-1k",
            "the photos of coco-5k in five folds of 1,000, in the data set's order; the mean over the folds",
            photos=5_000,
            captions=5,
            folds=5,
        ),
        ORIGINAL,
    )
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a data set lists, in its order: each photo's id and URI, and by photo the ids of the captions.

    ``captions`` may name photos that are not in ``photos``, where those cannot be read. ``shared`` are the
    ids of the captions that another photo has word for word.
    """

    photos: Mapping[str, str]
    captions: Mapping[str, tuple[str, ...]]
    shared: frozenset[str] = frozenset()


def list_records(records: Iterable[Record | Failure]) -> Listing:
    """The listing of ``records``, which need no content; failures are passed over."""
    photos: dict[str, str] = {}
    captions: dict[str, list[str]] = {}
    saying: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        if isinstance(record, Failure):
            continue
        if record.modality == IMAGE:
            photos[record.id] = record.uri or record.id
        else:
            photo = record.photo_id or record.id
            captions.setdefault(photo, []).append(record.id)
            saying.setdefault((record.text or "").strip(), []).append((photo, record.id))
    shared = [said for said in saying.values() if len({photo for photo, _ in said}) > 1]
    return Listing(
        photos,
        {photo: tuple(ids) for photo, ids in captions.items()},
        frozenset(id for said in shared for _, id in said),
    )


def shared_captions(listing: Listing, folds: Sequence[Subset]) -> int:
    """How many queries are captions that another photo has word for word, so that either would be right."""
    return sum(len(fold.queries & listing.shared) for fold in folds)


def choose(
    protocol: Protocol, listing: Listing, *, num_indexed: int | None = None, num_queries: int | None = None
) -> list[Subset]:
    """Gallery and queries of each fold.

    Every caption whose photo is searched is a query, and every photo of which a caption is searched; with
    ``num_queries`` the first so many of each fold and direction. ``num_indexed`` belongs to ``original``,
    which has defaults for both.

    Raises SettingsError where ``num_indexed`` is given for another protocol, DataSetError where the data is
    not what the protocol or ``num_indexed`` needs.
    """
    if num_indexed is not None and not protocol.pairs:
        raise SettingsError(
            f"-i {num_indexed} belongs to the protocol original, and --protocol {protocol.name} is "
            "given; leave out one of the two."
        )
    captions = {
        photo: ids[: protocol.captions] for photo, ids in listing.captions.items() if photo in listing.photos
    }
    if not captions:
        counted = sum(map(len, listing.captions.values()))
        raise DataSetError(
            f"There is nothing to evaluate: of {counted:,} captions none belongs to one of the "
            f"{len(listing.photos):,} photos."
        )
    if protocol.pairs:
        documents = [id for photo, (caption, *_) in captions.items() for id in (photo, caption)]
        gallery = _first(documents, num_indexed or _ORIGINAL_INDEXED)
        return [_subset(captions, gallery, gallery, num_queries or _ORIGINAL_QUERIES)]
    if protocol.photos is None:
        whole = {*listing.photos, *(id for ids in listing.captions.values() for id in ids)}
        return [_subset(captions, whole, captions, num_queries)]
    _require(protocol, listing)
    photos = list(listing.photos)
    size = len(photos) // protocol.folds
    folds = []
    for start in range(0, size * protocol.folds, size):
        part = {photo: captions[photo] for photo in photos[start : start + size]}
        searched = {*part, *(id for ids in part.values() for id in ids)}
        folds.append(_subset(part, searched, part, num_queries))
    return folds


def _subset(
    captions: Mapping[str, Sequence[str]],
    gallery: Collection[str],
    queries: Collection[str],
    num_queries: int | None,
) -> Subset:
    """The photos among ``queries`` that have a caption in the gallery, and the captions of those."""
    searched = frozenset(gallery)
    photos = [photo for photo in captions if photo in queries and not searched.isdisjoint(captions[photo])]
    texts = [id for photo in captions if photo in queries and photo in searched for id in captions[photo]]
    return Subset(searched, frozenset([*photos[:num_queries], *texts[:num_queries]]))


def _first(documents: Sequence[str], count: int) -> frozenset[str]:
    if count > len(documents):
        raise DataSetError(
            f"The protocol original searches {count:,} documents (-i), but the data has only "
            f"{len(documents):,}: {len(documents) // 2:,} photos with their first caption. Give a smaller -i."
        )
    return frozenset(documents[:count])


def _require(protocol: Protocol, listing: Listing) -> None:
    if len(listing.photos) != protocol.photos:
        raise DataSetError(
            f"The protocol {protocol.name} needs {protocol.photos:,} photos, but the data has "
            f"{len(listing.photos):,}. Choose the split with --split, or leave out --protocol to evaluate on "
            "the data as it is."
        )
    needed = protocol.captions or 1
    lacking = [photo for photo in listing.photos if len(listing.captions.get(photo, ())) < needed]
    if lacking:
        few = len(listing.captions.get(lacking[0], ()))
        raise DataSetError(
            f"The protocol {protocol.name} needs {needed} captions for each photo, but {len(lacking):,} of "
            f"the {protocol.photos:,} photos have fewer, such as {listing.photos[lacking[0]]} with {few}."
        )
