"""The derived file with the codes of a store's vectors, and what was measured of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.codes import Codes
from crossmodal.index.embedded.kept_codes import codes_file
from crossmodal.index.embedded.recall import Recall

__all__ = ["CodesFile"]


class CodesFile:
    """The file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = codes_file(path)

    def write(
        self, store_id: str, sequence: int, codes: Codes, recall: Recall, rerank: int, probes: int
    ) -> bool:
        """Replace the file; False if another process is doing so. Raises OSError and leaves the old file.

        ``sequence`` is that of the store's commit that the codes show; ``recall`` was measured with
        ``rerank`` and ``probes``.
        """
        header = {
            "store": store_id,
            "sequence": sequence,
            "next_row": codes.next_row,
            "tier": codes.tier,
            "recipe": codes.recipe,
            "trained_for": codes.trained_for,
            "distortion": codes.distortion,
            "recall": recall.value,
            "recall_measured": recall.measured,
            "rerank": rerank,
            "probes": probes,
        }
        arrays: list[tuple[str, list[NDArray[Any]]]] = [
            ("rows", [codes.rows]),
            ("index", [faiss.serialize_index(codes.index)]),
        ]
        return self._file.write(arrays, header)

    def read(self, store_id: str, sequence: int) -> tuple[Codes, Recall, int, int]:
        """Codes, recall, rerank and probes as they were written, for the store at ``sequence``.

        Raises ``StoreFormat`` (damaged, another version, also of faiss, of another store or of a later
        commit), FileNotFoundError or OSError.
        """
        header: dict[str, Any]
        header, arrays = self._file.read()
        if header["store"] != store_id or header["sequence"] > sequence:
            raise StoreFormat(f"{self.path} is not of this store as it is now")
        try:
            index = faiss.deserialize_index(arrays["index"])
        except RuntimeError as error:
            raise StoreFormat(f"{self.path} holds codes that this version of faiss cannot read") from error
        codes = Codes(
            header["tier"],
            header["recipe"],
            index,
            # Not mapped: every search reads some of them.
            arrays["rows"].copy(),
            header["next_row"],
            header["trained_for"],
            header["distortion"],
        )
        return codes, Recall(header["recall"], header["recall_measured"]), header["rerank"], header["probes"]

    def remove(self) -> None:
        """Delete the file, if it is there. Raises OSError."""
        self.path.unlink(missing_ok=True)
