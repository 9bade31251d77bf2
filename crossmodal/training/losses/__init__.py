"""Losses over a batch of pairs of a photo and a caption, as functions and as modules by name.

``names`` is the one module here that doesn't need torch.
"""
