"""A class raster made into polygons, measures and verdicts.

Enters: mask fragments or whole masks. Leaves: rows of region tables, and a verdict for each photograph.
It writes no file. `tracing` counts in whole pixels and imports nothing of batchseg.
"""
