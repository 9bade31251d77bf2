"""Models in the form of the transformers library: a folder with ``config.json``."""
