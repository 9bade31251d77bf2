"""The engine over HTTP: bodies in, answers out, and the processes that serve."""
