"""Search in Milvus: a server, a cluster, or Milvus Lite in a file (the extra ``milvus``)."""
