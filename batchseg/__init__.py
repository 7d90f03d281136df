"""batchseg segments whole image archives with PaddleSeg models: tiled, distributed, resumable.

Each folder is a room with one task, which its docstring says; docs/design/flow.md has the way of a pixel.
"""

__version__ = "0.1.0"
