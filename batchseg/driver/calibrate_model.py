"""`batchseg model calibrate`: a temperature for a job's model, by images with known classes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchseg.driver.executors.start import worker_count
from batchseg.driver.prepare import probe_model
from batchseg.errors import ConfigError, ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import JobConfig, Truth
from batchseg.models.reading import read_package
from batchseg.predict.moved_threshold import moved_threshold
from batchseg.predict.temperature import Calibration, calibration
from batchseg.predict.tempered_package import check_temperable, write_tempered
from batchseg.predict.truth import known_crops
from batchseg.system import storage
from batchseg.system.redact import remember_variables
from batchseg.system.temp_folders import run_folder

HALF = 0.5
"""The threshold that no temperature moves."""

LEAST_IMAGES = 2
"""One to find it on, and one to judge it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    recipe: Recipe
    found: Calibration
    folder: Path | None
    """Where the package was written; None: nowhere."""
    threshold: float | None = None
    """That keeps the classes of one band of scores, where the old one does not."""
    loses_threshold: bool = False
    """No threshold would keep them; nothing was written then."""


def calibrate_job(
    config: JobConfig, truth: Truth | None, folder: Path | None, say: Callable[[str], None]
) -> Calibrated:
    """Find a temperature, and write a package that has it.

    Args:
        config: the job, whose model, bands and values count.
        truth: images and labels; None: the job's own `gate: truth`.
        folder: of the new package; None: nothing is written.
        say: told what is done.

    Raises:
        ConfigError: there is no truth, or one image of it that can be used; or the folder exists.
        ModelError: the network gives no scores, fails, or cannot be written anew; or no threshold would keep
            the classes of its pixels.
    """
    truth = truth or config.gate.truth
    if truth is None:
        msg = f"{config.path}: it has no `gate: truth`; name images and labels: --truth IMAGES LABELS"
        raise ConfigError(msg)
    if folder is not None and (folder.exists() or folder.is_symlink()):
        msg = f"{folder} exists; name a folder that does not"
        raise ConfigError(msg)
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        say("checking the model with one tile")
        package = read_package(config.model)
        check_temperable(package)
        facts, device = probe_model(config, package)
        recipe = make_recipe(config, package, facts, device, None)
        known = known_crops(config, recipe, truth, say)
        if len(known) < LEAST_IMAGES:
            msg = f"{config.path}: one image has labels; a temperature is found on one, and judged on another"
            raise ConfigError(msg)
        say(f"predicting {len(known)} images")
        found = calibration(recipe, known, workers=worker_count(config))
        old = recipe.model.threshold
        moves = recipe.facts.output == "sigmoid" and old != HALF
        new = moved_threshold(old, found.temperature) if moves else None
        if folder is not None:
            if moves and new is None:
                msg = (
                    f"{config.path}: a temperature of {found.temperature:.3f} moves the threshold {old:g} to "
                    f"where float32 does not tell scores apart, and pixels would get another class; nothing "
                    f"is written. Leave the model as it is, or set model: {{threshold: ...}} nearer to {HALF}"
                )
                raise ModelError(msg)
            write_tempered(recipe, found, folder)
        return Calibrated(
            recipe=recipe, found=found, folder=folder, threshold=new, loses_threshold=moves and new is None
        )
