"""How a run ends on its output, over scenes and photographs alike: its tables, its ledger, its report."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchseg.driver.class_shares import ClassShares, class_shares
from batchseg.driver.clipped import clipped_words
from batchseg.driver.context import JobContext
from batchseg.driver.events import WorkEnded
from batchseg.driver.gone import Gone
from batchseg.driver.loop import Tally
from batchseg.driver.prepare import Prepared
from batchseg.driver.report import Report
from batchseg.driver.seam_words import seams_remedy, seams_warning
from batchseg.driver.triage import Triage
from batchseg.errors import BatchsegError, ModelError, StoppedError
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product
from batchseg.output import layout
from batchseg.output.class_sums import ClassSums, class_sums
from batchseg.output.items import write_items
from batchseg.output.ledger import Ledger
from batchseg.output.region_parts import tidy
from batchseg.output.seam_shares import seam_shares, write_seams
from batchseg.predict.choice import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What the end of a run needs of its beginning: all of `Prepared` but the listing."""

    context: JobContext
    ledger: Ledger
    product: Product
    choice: Choice
    gone: Gone
    triaged: Triage
    seams_remedy: str
    """What leaves fewer pixels that depend on where tiles lie, in words."""

    @classmethod
    def of(cls, context: JobContext, prepared: Prepared) -> "Closing":
        return cls(
            context=context,
            ledger=prepared.ledger,
            product=prepared.product,
            choice=prepared.chosen,
            gone=prepared.gone,
            triaged=prepared.triaged,
            seams_remedy=seams_remedy(context.config, prepared.recipe),
        )

    @property
    def is_of_photographs(self) -> bool:
        return self.product.photographs is not None

    def sums_before(self) -> ClassSums:
        """What the output holds as a run begins; where masks are cleaned, only what is cleaned in the same
        way: a class that a sieve takes away is nothing odd."""
        known = self.ledger.table()
        if self.product.cleaning is not None:
            known = known.filter(pc.equal(known["encoding"].cast(pa.string()), self.product.encoding))
        return class_sums(known)

    @contextlib.contextmanager
    def told(self, recorded: Callable[[], str]) -> Iterator[None]:
        """A run that ends early writes the table of what there is, and says how to go on.

        The merged ledger waits for a run that is not in a hurry.

        Args:
            recorded: says how much this run has recorded.
        """
        try:
            yield
        except (StoppedError, ModelError) as e:
            with contextlib.suppress(BatchsegError):
                self.context.lock.check()
                self._write_items()
            msg = f"{e} [{recorded()} recorded in this run; {self.context.way_on}]"
            raise type(e)(msg) from e

    def publish(self) -> None:
        """Write the tables and merge the ledger; no worker publishes anything any more.

        Raises:
            OutputError: they cannot be written, or the output is no longer held.
        """
        lock = self.context.lock
        tidy(self.context.config.output, self.ledger)
        lock.guard()
        self._write_items()
        lock.guard()
        self.ledger.merge()  # last: a ledger that is merged says that the run came to its end
        self.context.emit(WorkEnded())

    def report(self, tally: Tally, worked: Column, before: ClassSums, **own: Any) -> Report:
        """What the run did.

        Args:
            tally: of its loop.
            worked: ids of the sources that it had to do.
            before: what the output held when it began.
            own: further fields, of its kind of sources.
        """
        context, triaged, gone = self.context, self.triaged, self.gone
        now, names = class_sums(self.ledger.table(), worked), self.product.class_names
        values = context.config.values
        has_mask = values is None or values.divides
        clipped = values is not None and values.dtype == "uint16"
        shares = class_shares(now, before, names, photographs=self.is_of_photographs)
        seams = seam_shares(self.ledger.table(), self._predicted_names, worked)
        return Report(
            output=context.config.output,
            log=context.log,
            choice=self.choice,
            tally=tally,
            skipped=triaged.done,
            still_quarantined=triaged.quarantined,
            vanished=gone.ids,
            young=triaged.young,
            sums=context.sums,
            left_out=gone.left_out,
            broken_rows=gone.broken,
            classes=shares if has_mask else ClassShares(),
            rasters=layout.MASKS if has_mask else layout.VALUES,
            clipped=clipped_words(self.ledger.table(), worked) if clipped else "",
            seams=seams,
            seams_warning=seams_warning(seams, self.seams_remedy),
            **own,
        )

    @property
    def _predicted_names(self) -> list[str]:
        return [one.name for one in self.product.predicted_classes]

    def _write_items(self) -> None:
        write_items(
            self.context.config.output,
            self.ledger.table(),
            self.product.class_names,
            self.gone.ids,
            photographs=self.is_of_photographs,
        )
        if not self.is_of_photographs:
            write_seams(self.context.config.output, self.ledger.table(), self._predicted_names)
