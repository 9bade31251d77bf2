"""What an index is to the rest of the library: two protocols, and the backends that serve them.

``embedded`` keeps everything in one file of the workspace folder. ``milvus`` and ``qdrant`` are vector
databases that follow that file and find candidates in it.
"""
