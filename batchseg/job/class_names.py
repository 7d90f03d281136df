"""Classes as job files name them, by name or by id, as ids."""

import difflib
from collections.abc import Sequence

from batchseg.errors import ConfigError
from batchseg.models.package import ClassInfo


def class_ids(where: str, wanted: Sequence[str | int], classes: Sequence[ClassInfo]) -> tuple[int, ...]:
    """Ids of names and ids, ascending, each once.

    Args:
        where: the key that holds them, for messages.
        wanted: names or ids.
        classes: by id. One without a name was merged into another; none at all: nobody names them.

    Raises:
        ConfigError: one is not among the classes, or was merged.
    """
    names = {info.name: number for number, info in enumerate(classes) if info.name}
    unknown = [c for c in wanted if isinstance(c, str) and c not in names]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), names, n=1)
        hint = f" Perhaps you meant {near[0]!r}?" if near else ""
        known = ", ".join(names) or "none is named"
        msg = f"{where}: {unknown[0]!r} is not among the job's classes ({known}).{hint}"
        raise ConfigError(msg)
    chosen = {names[c] if isinstance(c, str) else c for c in wanted}
    outside = [c for c in chosen if c < 0 or (classes and c >= len(classes))]
    if outside:
        msg = f"{where}: {outside[0]} is no class id; there are 0..{max(len(classes) - 1, 0)}"
        raise ConfigError(msg)
    gone = [c for c in sorted(chosen) if classes and not classes[c].name]
    if gone:
        msg = f"{where}: no pixel has class {gone[0]}, which `merge` makes part of another; name that one"
        raise ConfigError(msg)
    return tuple(sorted(chosen))
