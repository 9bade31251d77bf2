"""The engine under everything: searches, indexing and deleting, on plain objects."""
