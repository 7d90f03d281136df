"""Scenes in words: how many there are, and the first of them."""

from collections.abc import Sequence

from batchseg.inputs.source import Scene
from batchseg.system.amounts import counted

SHOWN = 3
"""Examples of scenes in one warning."""


def count_of(scenes: Sequence[object]) -> str:
    """Such as `3 scenes`."""
    return counted(len(scenes), "scene")


def examples(scenes: Sequence[Scene]) -> str:
    """Ids of the first, in their order."""
    names = [scene.source.source_id for scene in scenes[:SHOWN]]
    return ", ".join([*names, "..."] if len(scenes) > SHOWN else names)
