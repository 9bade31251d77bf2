"""VSE++: an image CNN and a text GRU into one space, with weights in this folder."""
