"""The extra ``jina``: the same steps as executors in many processes, and gRPC for jina's clients.

Nothing outside of this folder imports jina or docarray. ``open_pods`` and ``start_grpc_server`` can be
imported where they are missing, and say so in a sentence.
"""
