"""Losses over a batch of pairs of a photo and a caption, as functions and as modules by name."""
