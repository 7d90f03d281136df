"""What the file of a source's mask is called, below the folder of its layer.

By two rules, of which an output keeps the one that it began with:

    id           added            kept
    a/x.tif      a/x.tif.tif      a/x.tif
    a/x.jp2      a/x.jp2.tif      a/x.jp2.tif
    a/x.TIF      a/x.TIF.tif      a/x.TIF.tif
    x            x.tif            x.mask.tif
    x.jp2.tif    x.jp2.tif.tif    x.jp2.tif.tif
    a.tif/x.tif  a.tif/x.tif.tif  a.tif_/x.tif

Under either no two ids share a name, whatever the ids: a name depends on its id alone, on nothing that a run
finds. Under `kept` no mask has the name of another one's folder either: in a bucket a.tif may lie beside
a.tif/x.tif. All masks end in one suffix, TIFFs in `.tif` in small letters, so one glob finds them; PNG masks
have `.png` in its place everywhere.

`added` is what earlier versions did. New outputs have it where all inputs give scenes names of their own, as
those of several files have: x is then better called x.tif.
"""

import re
from collections.abc import Iterable

from batchseg.job.settings import MaskNames, SceneSet

SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".gtiff", ".heic", ".heif", ".hif", ".img", ".j2k", ".jfif", ".jp2"),
    *(".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"),
    *(".vrt", ".webp"),
)
"""Of rasters and photographs, in any case. One more, or one less, would rename masks of outputs that are
there: that takes another rule."""

_MARK = ".mask"
"""Tells x from x.tif; none of SUFFIXES."""

_LIKE_A_MASK = re.compile(r"\.(tif|png)_*", re.IGNORECASE)
"""The end of a folder's name."""


def mask_name(source_id: str, suffix: str, names: MaskNames) -> str:
    """The path of a source's mask below the folder of masks.

    Args:
        source_id: its parts are parts of the path.
        suffix: "tif" or "png".
        names: the output's rule.
    """
    if names == "added":
        return f"{source_id}.{suffix}"
    *folders, name = source_id.split("/")
    return "/".join([*map(_folder, folders), _kept(name, f".{suffix}")])


def _folder(name: str) -> str:
    """Never a mask's name."""
    dot = name.rfind(".")
    return f"{name}_" if dot >= 0 and _LIKE_A_MASK.fullmatch(name, dot) else name


def _kept(name: str, ending: str) -> str:
    stem = name.removesuffix(ending)
    # Else another source's mask is called so: x.jp2's is x.jp2.tif, and that of x is x.mask.tif.
    if stem != name and not stem.lower().endswith((*SUFFIXES, _MARK)):
        return name
    is_raster = name.lower().endswith(SUFFIXES)
    return name + ending if is_raster else name + _MARK + ending


def first_rule(inputs: Iterable[str | SceneSet]) -> MaskNames:
    """The rule of an output that begins with these inputs."""
    return "added" if all(_gives_names(given) for given in inputs) else "kept"


def _gives_names(given: str | SceneSet) -> bool:
    """Whether its scenes are called otherwise than their files."""
    return isinstance(given, SceneSet) and (given.kind != "manifest" or given.id_column is not None)


def shown_rule(masks: Iterable[tuple[str, str | None]]) -> MaskNames | None:
    """The rule by which recorded masks are named; None where none tells.

    Args:
        masks: source ids and paths below the output; no path: a source without a mask.
    """
    for source_id, path in masks:
        if path is None:
            continue
        name, suffix = path.partition("/")[2], path.rpartition(".")[2]
        added, kept = (mask_name(source_id, suffix, names) == name for names in ("added", "kept"))
        if added != kept:
            return "added" if added else "kept"
    return None
