"""batchseg segments whole image archives with PaddleSeg models: tiled, distributed, resumable."""

__version__ = "0.1.0"
