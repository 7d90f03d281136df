"""How fast scenes get done, all that is done for them included: what decides how many go into one call."""

from collections.abc import Callable

SPAN_SECONDS = 0.5
"""Of work from which a speed is told: answers come in bunches, up to a tenth of a second apart."""

WEIGHT = 0.3
"""Of the latest span, against those before it."""


class Pace:
    """Tiles of a predictor per second, from what all predictors give back.

    Where some of them wait it is too low, so that calls are short when there is little to do.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None
        self._tiles = 0
        self.tiles_per_second: float | None = None
        """None: not known yet."""

    def note(self, tiles: int, predictors: int) -> None:
        """So many tiles came back, while there were so many predictors."""
        now = self._clock()
        if self._since is None:  # what was done before the first answer began at an unknown time
            self._since = now
            return
        self._tiles += tiles
        if (passed := now - self._since) < SPAN_SECONDS or not self._tiles:
            return
        latest, known = self._tiles / passed / max(1, predictors), self.tiles_per_second
        self.tiles_per_second = latest if known is None else known + WEIGHT * (latest - known)
        self._since, self._tiles = now, 0
