"""kill -9 at random moments of everything that writes an index: ``python -m tests.chaos --kills 200``."""
