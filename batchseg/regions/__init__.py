"""A class raster made into polygons, measures and verdicts.

Enters: strips of a scene's mask, or whole masks of photographs. Leaves: rows of region tables, and a verdict
for each photograph. `rows` has the columns of both tables and the values of a scene's; `photo_table` has the
values of photographs. `scene_table` writes rows to a local file that `output` gives it and publishes; nothing
else here writes. `tracing` counts in whole pixels and imports nothing of batchseg.
"""
