"""The models worth searching with, as records: what they are, what they need, how good they are."""

from crossmodal.models.zoo.names import find_record, is_cached, near_names, split_name, zoo
from crossmodal.models.zoo.record import ModelRecord, Result

__all__ = ["ModelRecord", "Result", "find_record", "is_cached", "near_names", "split_name", "zoo"]
