"""A source made into arrays: tiles and shards of scenes, whole photographs, and which pixels are valid.

Enters: a source and a window. Leaves: arrays (bands, rows, columns) beside a mask that is True where a pixel
is valid. It predicts nothing and writes nothing. What a source cannot give is refused here, with its reason.
"""
