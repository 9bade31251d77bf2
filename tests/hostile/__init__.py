"""Hostile inputs against HTTP, gRPC, Python and the command line: ``python -m tests.hostile``."""
