"""A source made into arrays: tiles and shards of scenes, whole photographs, and which pixels are valid.

Enters: a source, and of a scene its windows. Leaves: arrays (scenes: bands, rows, columns; photographs: rows,
columns, channels) and validity: True where a pixel is usable, None where all are. It predicts nothing, and
writes nothing but copies of remote files. What a source cannot give is refused here, with its reason.
"""
