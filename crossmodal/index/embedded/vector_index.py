"""The vectors of one store, searched by the tier that suits their number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.filters import Filter
from crossmodal.index.embedded.codes import EXACT_RECALL, CodesFile
from crossmodal.index.embedded.compared import Hit, asking
from crossmodal.index.embedded.derived_file import CODES, VECTORS, derived_path
from crossmodal.index.embedded.exact_index import ExactIndex, checked_queries
from crossmodal.index.embedded.maintenance import Maintenance, Tier
from crossmodal.index.embedded.options import EXACT, SearchOptions
from crossmodal.index.embedded.row_view import RowView
from crossmodal.index.embedded.vector_source import VectorSource

__all__ = ["VectorIndex"]


class VectorIndex:
    """All vectors of ``source``, following it as it changes.

    Searches are exact until there are codes for what ``options`` ask for; those are made by a thread that
    starts when there is something to make, and searches go on meanwhile. ``keep_files`` False
    stores no derived files. Safe to use from several threads, which search at the same time. Close it before
    its store.
    """

    def __init__(
        self, source: VectorSource, *, keep_files: bool = True, options: SearchOptions | None = None
    ) -> None:
        self._options = options or SearchOptions()
        vectors_file, codes = (derived_path(source, kind) for kind in (VECTORS, CODES))
        self._exact = ExactIndex(source, search_file=vectors_file if keep_files else None)
        codes_file = CodesFile(codes) if keep_files else None
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
        self,
        queries: NDArray[np.floating[Any]],
        top_k: int,
        filter: Filter | None = None,
        *,
        corrected: NDArray[np.bool_] | None = None,
    ) -> list[list[Hit]]:
        """For each row of ``queries`` (n, dimension) the best ``top_k``, with inner products in float64.

        Of the queries that are ``corrected`` (n,) the hubness of each document is taken off its score. The
        scores are those of ``ExactIndex.search`` to the last bit and fall, equal ones are in order of id,
        and a smaller ``top_k`` gives the beginning of a larger one. With codes a document among the best can
        be missed (``status`` has the share of those found), and what is missed at a small ``top_k`` is at a
        larger one. With ``filter`` the search is exact. Raises as ``ExactIndex.search``.
        """
        wanted = checked_queries(queries, top_k)
        view = self._exact.view()
        self._maintenance.start(view)
        if filter is not None:
            return self._exact.search(wanted, top_k, filter, corrected=corrected)
        if len(view) and len(wanted):
            rows = asking(wanted, corrected)
            self._exact.check_dimension(rows, view)
            self._maintenance.remember(rows)
            tier = self._tier_for(view)
            if tier is not None:
                return tier.search.search(view, rows, top_k)
        return self._exact.search(wanted, top_k, corrected=corrected, view=view)

    def cosines(
        self, queries: NDArray[np.floating[Any]]
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float32]]:
        """The ids of all vectors, their cosines and hubness; see ``ExactIndex.cosines``."""
        return self._exact.cosines(queries)

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
