"""Tiles in, class rasters out: the predictor, stitching, the probe of a model, and the choice of its engine.

Enters: arrays and their validity from pixels. Leaves: class ids (uint8) and confidences, by shard or
photograph. It knows how a network is asked, not where pixels come from nor where masks go.
"""
