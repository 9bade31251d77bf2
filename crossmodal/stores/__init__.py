"""LMDB environments: the truth about what is indexed."""

from crossmodal.stores.blocks import VectorBlock
from crossmodal.stores.store import FORMAT, Store, VectorSnapshot, mismatch_message

__all__ = ["FORMAT", "Store", "VectorBlock", "VectorSnapshot", "mismatch_message"]
