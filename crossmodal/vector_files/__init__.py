"""Files of vectors that other tools write and read: npy in clip-retrieval's folders, and Parquet."""

from crossmodal.vector_files.reading import VectorFiles, open_vector_files
from crossmodal.vector_files.rows import Embedded, embedded
from crossmodal.vector_files.writing import VectorWriter

__all__ = ["Embedded", "VectorFiles", "VectorWriter", "embedded", "open_vector_files"]
