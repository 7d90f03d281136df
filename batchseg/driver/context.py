"""What every run has at hand, over scenes and over photographs alike."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchseg.driver.events import Listener, Note
from batchseg.driver.progress import Sums, describe_young
from batchseg.driver.tasks import Stop
from batchseg.driver.value_check import Looked
from batchseg.inputs.ids import InputRoot
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import JobConfig
from batchseg.output.lock import Lock
from batchseg.output.state import OutputState, save_state
from batchseg.predict.engine_choice import Choice
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

    def note_left_out(self, lines: tuple[str, ...], *, gone: int, young: int) -> None:
        """Say what of the inputs is none, how many are gone, and how many are left to a later run."""
        for line in lines:
            self.emit(Note(text=line))
        if gone:
            text = (
                f"{counted(gone, 'source')} {are(gone)} gone from the inputs; their results are kept until "
                f"`batchseg prune {self.config.output}`"
            )
            self.emit(Note(text=text))
        if young:
            self.emit(Note(text=describe_young(young, self.config.min_age)))

    def tell_values(self, looked: Looked) -> None:
        """Say what the files hold and what the network gets of it."""
        for line in (*looked.lines, *([f"warning: {looked.warning}"] if looked.warning else [])):
            self.emit(Note(text=line))

    def remember(
        self,
        recipe: Recipe,
        product: Product,
        *,
        roots: Mapping[str, InputRoot],
        choice: Choice,
        vanished: tuple[str, ...],
        before: OutputState | None,
    ) -> None:
        """Record how the output is made, if that is not what `before` says. Raises OutputError."""
        new = OutputState(
            pixel=recipe.settings(),
            device=recipe.device,
            facts=recipe.facts,
            roots=roots,
            choice=choice,
            classes=product.class_names,
            colors=tuple(info.color for info in product.classes),
            vanished=vanished,
        )
        if new != before:
            self.lock.guard()
            save_state(self.config.output, new)
