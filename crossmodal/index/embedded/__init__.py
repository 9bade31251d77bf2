"""The index in one SQLite file, with vectors mapped from a derived file and searched exactly or by codes."""
