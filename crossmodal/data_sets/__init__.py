"""A name or a path to a stream of photos, captions and failures.

::

    from pathlib import Path
    from crossmodal.data_sets import open_data_set

    for item in open_data_set("toy-data", data_root=Path("data")):
        print(item)
"""

from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.mentions import Limits
from crossmodal.data_sets.opening import DATA_SET_NAMES, open_data_set, open_data_sets
from crossmodal.data_sets.photos import read_photo_file

__all__ = ["DATA_SET_NAMES", "DataSet", "Limits", "open_data_set", "open_data_sets", "read_photo_file"]
