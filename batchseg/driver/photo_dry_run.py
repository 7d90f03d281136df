"""`batchseg plan` for photographs: what a run would do. No photograph is opened."""

from collections.abc import Callable
from dataclasses import dataclass

from batchseg.driver.photo_triage import StoredOutputs, triage_photographs
from batchseg.driver.prepare import kept_choice, make_product, probe_model, read_package, worker_count
from batchseg.driver.revise import revise
from batchseg.inputs.photo_listing import list_photographs
from batchseg.inputs.tables import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import JobConfig
from batchseg.output.ledger import Ledger
from batchseg.output.state import check_pixel_settings, load_state
from batchseg.predict.engine_choice import choose, is_open
from batchseg.system import publish, storage
from batchseg.system.temp_folders import run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoPlan:
    """A run over photographs in numbers."""

    recipe: Recipe
    product: Product
    predict: int
    derive: int
    """From stored masks and regions."""
    file_bytes: int
    """Of those to predict."""
    done: int
    quarantined: int
    """In earlier runs, and unchanged since."""
    gone: int
    young: int
    min_age: float
    workers: int
    undecided: bool
    """The first run will try engines."""


def plan_photographs(config: JobConfig, say: Callable[[str], None]) -> PhotoPlan:
    """Plan a job on this machine.

    Raises:
        BatchsegError: what `run` would refuse before it reads a photograph, with the same words.
    """
    storage.configure(config.storage)
    with run_folder():
        say("checking the model with one tile")
        package = read_package(config.model)
        facts, device = probe_model(config, package)
        recipe = make_recipe(config, package, facts, device)
        state = load_state(config.output)
        kept = kept_choice(package, state)
        undecided = is_open(config, kept)
        if not undecided:
            recipe, _ = choose(config, recipe, kept, (), workers=worker_count(config), say=say)
            check_pixel_settings(state, recipe.settings(), config.output)
        product = make_product(config, recipe)
        say("listing inputs")
        listing, _ = list_photographs(config, state.roots if state else {})
        known = Ledger(config.output).table()
        triaged = triage_photographs(
            listing,
            known,
            pixel=recipe.digest,
            product=product.digest,
            outputs_there=StoredOutputs(config.output),
        )
        revision = revise(triaged.todo, known, recipe, product, vanished=triaged.vanished)
        publish.check_writable(config.output)
        return PhotoPlan(
            recipe=recipe,
            product=product,
            predict=revision.predict.num_rows,
            derive=revision.derive.num_rows,
            file_bytes=pc.sum(revision.predict["size"]).as_py() or 0,
            done=triaged.done,
            quarantined=triaged.quarantined,
            gone=len(triaged.vanished),
            young=triaged.young,
            min_age=config.min_age,
            workers=worker_count(config),
            undecided=undecided,
        )
