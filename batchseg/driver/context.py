"""What every run has at hand, over scenes and over photographs alike."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from batchseg.driver.events import Listener, Note
from batchseg.driver.gone import Gone
from batchseg.driver.progress import Sums, describe_young
from batchseg.driver.tasks import Stop
from batchseg.driver.value_check import Looked
from batchseg.job.settings import JobConfig
from batchseg.output.lock import Lock
from batchseg.output.state import OutputState, save_state
from batchseg.pixels.usual_values import Usual
from batchseg.system.amounts import are, counted


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What a run finds when it begins."""

    config: JobConfig
    run_id: str
    lock: Lock
    sums: Sums
    emit: Listener
    stop: Stop
    """A reason in words ends the run; the lock's loss is one."""
    log: str
    """URI of the run's log."""
    profile: bool = False
    """Whether the times of all steps are wanted."""

    @property
    def way_on(self) -> str:
        """What the user does after a stop, in words; a job made in Python has no file."""
        path = self.config.path
        if Path(path).is_file():
            return f"the same command goes on: batchseg run {shlex.quote(path)}, with the options that it had"
        return "the same command goes on"

    def note_left_out(self, gone: Gone, *, young: int) -> None:
        """Say what of the inputs is none, how many are gone, and how many are left to a later run."""
        for line in gone.left_out:
            self.emit(Note(text=line))
        if count := len(gone.ids):
            text = (
                f"{counted(count, 'source')} {are(count)} gone from the inputs; their results are kept until "
                f"`batchseg prune {self.config.output}`"
            )
            self.emit(Note(text=text))
        if young:
            self.emit(Note(text=describe_young(young, self.config.min_age)))

    def tell_values(self, looked: Looked) -> None:
        """Say what the files hold and what the network gets of it."""
        for line in (*looked.lines, *([f"warning: {looked.warning}"] if looked.warning else [])):
            self.emit(Note(text=line))

    def remember(self, before: OutputState | None, new: OutputState, usual: tuple[Usual, ...] = ()) -> None:
        """Record how the output is made, and what its first sources held, if `before` says another thing.

        Raises:
            OutputError: it cannot be written.
        """
        new = replace(new, usual=usual)
        if new != before:
            self.lock.guard()
            save_state(self.config.output, new)
