"""The classes of a run's pixels, and whether one of them having everything is odd."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchseg.output.class_sums import ClassSums

CHANCE = 0.01
"""With which as many sources have one class and no other though nothing is wrong, by the share of earlier
ones that were so: below it a run is warned about. Good nights of a camera have no defect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassShares:
    """Of what a run did."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """By class name, the largest first, of all valid pixels."""
    warning: str = ""
    """That one class has everything, where earlier runs had more."""

    @property
    def only_class(self) -> str | None:
        return next(iter(self.shares)) if len(self.shares) == 1 else None

    @property
    def in_words(self) -> str:
        return ", ".join(f"{name} {_percent(share)}" for name, share in self.shares.items())


def class_shares(
    now: ClassSums, before: ClassSums, names: Sequence[str], *, photographs: bool = False
) -> ClassShares:
    """The shares of this run, seen beside those of earlier ones.

    Args:
        now: of the sources that this run did.
        before: of all that was done when it began.
        names: of the classes, by id.
        photographs: of which a few tell little, unlike scenes: most scenes have several classes.
    """
    total = sum(now.pixels.values())
    largest_first = sorted(now.pixels.items(), key=lambda item: -item[1])
    return ClassShares(
        shares={_name(number, names): pixels / total for number, pixels in largest_first},
        warning=_warning(now, before, names, few_tell=not photographs),
    )


def _warning(now: ClassSums, before: ClassSums, names: Sequence[str], *, few_tell: bool) -> str:
    only = now.only_class
    others = [number for number in before.pixels if number != only]
    if only is None or not others or _chance(only, now, before, few_tell=few_tell) > CHANCE:
        return ""
    known = ", ".join(_name(number, names) for number in others[:5]) + ", ..." * (len(others) > 5)
    return (
        f"every pixel of this run is {_name(only, names)}; earlier runs of this output found {known} too: "
        f"look at what the network gets, as `batchseg plan` and the run's log show it"
    )


def _chance(only: int, now: ClassSums, before: ClassSums, *, few_tell: bool) -> float:
    """That all sources of a run have this class alone, if they are as earlier ones."""
    more = 0 if few_tell else 1  # one good photograph, after one with a defect, is nothing odd
    return ((before.alone.get(only, 0) + more) / (before.sources + more)) ** now.sources


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if number < len(names) else f"class {number}"


def _percent(share: float) -> str:
    """
    >>> _percent(1), _percent(0.4567), _percent(0.99996), _percent(0.00001)
    ('100 %', '45.7 %', '>99.9 %', '<0.1 %')
    """
    if share == 1:
        return "100 %"
    if share > 0.999:
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "<0.1 %"
