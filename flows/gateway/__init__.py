"""The HTTP side of both Flows: bodies in, answers out; the Flow does the rest."""
