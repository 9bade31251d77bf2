"""Search in Qdrant: a server, or a folder of its local mode (the extra ``qdrant``)."""
