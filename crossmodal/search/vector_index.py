"""The vectors of one store, searched by the tier that suits their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.filters import Filter
from crossmodal.search.codes_file import CodesFile
from crossmodal.search.exact_index import ExactIndex, checked_queries
from crossmodal.search.kept_codes import CODES_FILE
from crossmodal.search.maintenance import Maintenance, Tier
from crossmodal.search.options import EXACT, SearchOptions
from crossmodal.search.recall import EXACT_RECALL
from crossmodal.search.row_view import RowView
from crossmodal.search.search_file import SEARCH_FILE
from crossmodal.search.tag_fields import TagField
from crossmodal.stores import Store

__all__ = ["VectorIndex"]


class VectorIndex:
    """All vectors of ``store``, following the store as it changes.

    Searches are exact until there are codes for what ``options`` ask for; those are made by a thread that
    starts when there is something to make, and searches go on meanwhile. The derived files lie in ``folder``
    (None: nothing is kept). Safe to use from several threads, which search at the same time. Close it before
    its store.
    """

    def __init__(
        self, store: Store, *, folder: Path | None = None, options: SearchOptions | None = None
    ) -> None:
        self._options = options or SearchOptions()
        self._exact = ExactIndex(store, search_file=None if folder is None else folder / SEARCH_FILE)
        codes_file = None if folder is None else CodesFile(folder / CODES_FILE)
        self._maintenance = Maintenance(self._exact, codes_file, self._options)
        self._maintenance.load()
        self._maintenance.start(self._exact.view())

    def __len__(self) -> int:
        return len(self._exact)

    @property
    def sequence(self) -> int:
        """The sequence number of the store's commit that the index shows."""
        return self._exact.sequence

    def search(
        self, queries: NDArray[np.floating[Any]], top_k: int, filter: Filter | None = None
    ) -> list[list[tuple[str, float]]]:
        """For each row of ``queries`` (n, dimension) the best ``top_k`` (id, inner product in float64).

        The scores are those of ``ExactIndex.search`` to the last bit and fall, equal ones are in order of id,
        and a smaller ``top_k`` gives the beginning of a larger one. With codes a document among the best can
        be missed (``status`` tells the share of those found), and what is missed at a small ``top_k`` is at a
        larger one. With ``filter`` the search is exact. Raises as ``ExactIndex.search``.
        """
        wanted = checked_queries(queries, top_k)
        view = self._exact.view()
        self._maintenance.start(view)
        if filter is not None:
            return self._exact.search(wanted, top_k, filter)
        if len(view) and len(wanted):
            self._exact.check_dimension(wanted, view)
            self._maintenance.remember(wanted)
            tier = self._tier_for(view)
            if tier is not None:
                return tier.search.search(view, wanted, top_k)
        return self._exact.search(wanted, top_k, view=view)

    def scores(self, queries: NDArray[np.floating[Any]]) -> tuple[list[str], NDArray[np.float64]]:
        """The ids of all vectors and each one's score; see ``ExactIndex.scores``."""
        return self._exact.scores(queries)

    def tag_fields(self, limit_values: int | None = 50) -> list[TagField]:
        """The tags that the documents with a vector have; see ``TagIndex.fields``."""
        return self._exact.tag_fields(limit_values)

    def build(self) -> None:
        """Do now what the thread would do: write the search file, make, extend or check the codes."""
        self._maintenance.run()

    def status(self) -> dict[str, Any]:
        """How searches are answered, as JSON values.

        Keys: ``tier`` in use, how it was ``chosen`` (auto or named), the numbers of ``vectors``, of those
        with a code (``coded``), of those without (``tail``) and of coded ones that are ``dead``, ``recall``
        (the share of the ten best found, None before it was measured) with ``recall_measured``, a sentence,
        and ``building``: None, or ``what`` is being made and the share ``done``.
        """
        view = self._exact.view()
        tier, building = self._tier_for(view), self._maintenance.building
        recall = EXACT_RECALL if tier is None else tier.recall
        coded = 0 if tier is None else len(tier.search.codes)
        living = 0 if tier is None else view.living_below(view.position_of(tier.search.codes.next_row))
        return {
            "tier": EXACT if tier is None else tier.search.codes.tier,
            "chosen": "auto" if self._options.index == "auto" else "named",
            "vectors": len(view),
            "coded": coded,
            "tail": 0 if tier is None else len(view) - living,
            "dead": coded - living,
            "recall": recall.value,
            "recall_measured": recall.measured,
            "building": None if building is None else {"what": building.what, "done": building.done},
        }

    def close(self) -> None:
        """End the thread."""
        self._maintenance.close()

    def _tier_for(self, view: RowView) -> Tier | None:
        """What answers searches of ``view``; None for exact search."""
        tier = self._maintenance.tier
        return tier if tier is not None and tier.store_id == view.store_id else None
