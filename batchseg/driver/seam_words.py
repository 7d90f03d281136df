"""What a run says of the pixels that depend on where tiles lie, and what makes them fewer."""

from dataclasses import fields

from batchseg.errors import ConfigError, ModelError
from batchseg.job.averaging import check_scores, with_averaging
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.output.seam_shares import SeamShares
from batchseg.predict.halo import is_open

LARGEST_TILE = 2048
"""Pixels per side that are advised: larger ones take gigabytes of memory in many networks."""

MANY = 0.005
"""Share of the pixels above which a run warns."""


def seams_warning(shares: SeamShares, remedy: str) -> str:
    """How many pixels change, and what mends it; empty where they are few."""
    return f"{shares.in_words}. {remedy}" if shares.share > MANY else ""


def seams_remedy(config: JobConfig, recipe: Recipe) -> str:
    """What leaves fewer of them, of the keys that this job and its network take."""
    ways = []
    if recipe.blend == "none" and _takes_blending(config, recipe):
        ways.append("blend: hann")
    if is_open(recipe) and 2 * recipe.tile_size <= LARGEST_TILE:
        ways.append(f"tile_size: {2 * recipe.tile_size}")
    table = "`batchseg model halo MODEL JOB` shows what a wider halo would change"
    if not ways and recipe.blend != "none":
        return f"The job blends already, and larger tiles than its own are not advised; {table}"
    if not ways:
        return f"Neither `blend` nor larger tiles are to be had for this network; {table}"
    return f"Set {' or '.join(ways)}, which leaves fewer; {table}"


def _takes_blending(config: JobConfig, recipe: Recipe) -> bool:
    # A job that Python made has a constructor of its own, which `replace` would call.
    given = {one.name: getattr(config, one.name) for one in fields(JobConfig)}
    blended = JobConfig(**given | {"blend": "hann", "overlap": None})
    try:
        check_scores(blended, recipe.model, recipe.facts)
        with_averaging(blended, recipe)
    except (ConfigError, ModelError):
        return False
    return True
