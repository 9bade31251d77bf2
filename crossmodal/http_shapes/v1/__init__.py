"""The native API: searches and documents in, their results out."""
