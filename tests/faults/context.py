"""What the campaign was asked to do."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Options of one campaign."""

    seed: int = 1
    times: int | None = None
    only: str = ""
    without: str | None = None
    """Faults with this in their name are left out."""
    work: Path
    """Archives and outputs; kept, as archives of a name are always the same."""
    s3_endpoint: str | None = None
    """Of a real S3 server; sections leave out what needs one where there is none."""

    def seeds(self, fault: str, usual_times: int) -> Iterator[tuple[int, random.Random]]:
        """A seed and its source of chance for each trial of a fault; none where it was not asked for."""
        if self.only not in fault or (self.without is not None and self.without in fault):
            return
        for seed in range(self.seed, self.seed + (self.times or usual_times)):
            yield seed, random.Random(f"{fault}/{seed}")
