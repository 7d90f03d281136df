"""The keys `merge` and `sieve`: what masks are to be made of what the network says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchseg.errors import ConfigError
from batchseg.job.class_names import class_ids
from batchseg.job.settings import JobConfig
from batchseg.models.package import ClassInfo

VACANT = ClassInfo(name="", color="#000000")
"""In place of a class that was merged into another: no pixel has its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Classes that become one."""

    name: str
    ids: tuple[int, ...]
    """Ascending; the first is the id that the one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What is done to each mask as a whole before it is published: merge, then sieve."""

    classes: tuple[ClassInfo, ...]
    """As they are predicted, by id."""
    merges: tuple[Merge, ...] = ()
    """In the order of their ids."""
    sieve: int = 0
    """Pixels; smaller regions take the class of a neighbour. 0: all stay."""
    connectivity: int = 4
    """4: pixels of a region touch by their sides; 8: by their corners too."""

    @property
    def shown(self) -> tuple[ClassInfo, ...]:
        """The classes of a mask, by id: a merged one in its first one's colour, VACANT at the others' ids."""
        shown = list(self.classes)
        for merge in self.merges:
            first, *others = merge.ids
            shown[first] = ClassInfo(name=merge.name, color=self.classes[first].color)
            for other in others:
                shown[other] = VACANT
        return tuple(shown)

    @property
    def words(self) -> str:
        """What is done, for people."""
        names = [info.name for info in self.classes]
        merges = [
            f"{', '.join(names[number] for number in merge.ids)} become {merge.name}" for merge in self.merges
        ]
        sieve = f"regions below {self.sieve:,} pixels take a neighbour's class"
        return "; ".join([*merges, *([sieve] if self.sieve else [])])

    def settings(self) -> dict[str, Any]:
        """In words; what is not done has no key."""
        words: dict[str, Any] = {"predicted": [[c.name, c.color] for c in self.classes]}
        if self.merges:
            words["merge"] = [list(merge.ids) for merge in self.merges]
        if self.sieve:
            words["sieve"] = [self.sieve, self.connectivity]
        return words


def make_cleaning(config: JobConfig, classes: Sequence[ClassInfo]) -> Cleaning | None:
    """Classes by id instead of by name; None where masks are as they are predicted.

    Args:
        config: the job.
        classes: as they are predicted, by id; none where nobody names them.

    Raises:
        ConfigError: `merge` names a class that is not there, or one twice, or gives a name that is taken.
    """
    if not (config.merge or config.sieve):
        return None
    merges = [Merge(name=name, ids=_members(name, wanted, classes)) for name, wanted in config.merge]
    _check_disjoint(merges, classes)
    return Cleaning(
        classes=tuple(classes),
        merges=tuple(sorted(merges, key=lambda merge: merge.ids)),
        sieve=config.sieve,
        connectivity=4 if config.regions is None else config.regions.connectivity,
    )


def _members(name: str, wanted: Sequence[str | int], classes: Sequence[ClassInfo]) -> tuple[int, ...]:
    where = f"merge: {name}"
    if not classes:
        msg = f"{where}: nobody names the model's classes; list them in `classes`"
        raise ConfigError(msg)
    ids = class_ids(where, wanted, classes)
    if len(ids) < len(wanted):
        msg = f"{where}: a class is named twice in {', '.join(map(str, wanted))}; leave one out"
        raise ConfigError(msg)
    return ids


def _check_disjoint(merges: Sequence[Merge], classes: Sequence[ClassInfo]) -> None:
    known = ", ".join(info.name for info in classes)
    owner: dict[int, str] = {}
    for merge in merges:
        for number in merge.ids:
            if (other := owner.setdefault(number, merge.name)) != merge.name:
                msg = (
                    f"merge: {classes[number].name!r} is in {other!r} and in {merge.name!r}; each of the "
                    f"job's classes ({known}) goes into one"
                )
                raise ConfigError(msg)
    for merge in merges:
        taken = [info.name for number, info in enumerate(classes) if number not in merge.ids]
        if merge.name in taken:
            msg = f"merge: {merge.name!r} is another of the job's classes ({known}); choose a name of its own"
            raise ConfigError(msg)
