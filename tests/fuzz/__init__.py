"""Fuzz targets for what strangers send: ``python -m tests.fuzz TARGET --seconds 600``, with atheris."""
