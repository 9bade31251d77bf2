"""Indexing where one machine takes too long: photos are read and encoded elsewhere, and written here."""
