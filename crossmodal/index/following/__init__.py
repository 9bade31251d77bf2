"""A vector database that follows ``index.sqlite``: what all of them have in common.

The file stays the truth. The database holds the vectors with their tags under the number of their row, and
how far it has come; it can be filled again at any time, and nothing that it answers is taken unseen.
"""
