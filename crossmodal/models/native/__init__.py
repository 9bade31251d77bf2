"""The two-tower models of this project, `vse` and `clip-mini`: one CNN for photos, a GRU or a transformer for
sentences, one checkpoint format, and the shipped weights."""
