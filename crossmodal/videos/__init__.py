"""Videos: which files they are, and the few frames of each that are worth finding."""
