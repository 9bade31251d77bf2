"""Models that can be trained, behind one small interface (``base.Trainable``)."""
