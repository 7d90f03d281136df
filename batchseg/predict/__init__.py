"""Tiles in, class rasters out: the predictor, stitching, the probe of a model, and the choice of its engine.

Enters: arrays and their validity from pixels. Leaves: class ids (uint8, or uint16 for many classes) and
confidences, by shard or photograph. It does not know where masks go. Only `samples` reads sources, and only
`bake_package` writes a result.
"""
