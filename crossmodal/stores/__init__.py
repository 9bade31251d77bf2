"""LMDB environments: the truth about what is indexed."""

from crossmodal.stores.blocks import VectorBlock
from crossmodal.stores.mismatch import mismatch_message
from crossmodal.stores.snapshot import VectorSnapshot
from crossmodal.stores.store import FORMAT, Store

__all__ = ["FORMAT", "Store", "VectorBlock", "VectorSnapshot", "mismatch_message"]
