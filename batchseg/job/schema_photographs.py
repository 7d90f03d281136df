"""Keys of the job file that photographs alone have, and those that go with no photograph."""

from typing import Any

from batchseg.job import schema_parts

OF_PHOTOGRAPHS = (
    "fit",
    "rules",
    "pixel_size",
    "masks",
    "mask_format",
    "same_content",
    "max_photo_memory",
)
"""Keys that photographs alone have."""

SAYS_PHOTOGRAPHS = ("fit", "rules")
"""Either of them says that the inputs are photographs. Another key would make such of scenes by accident."""


def for_photographs(job: Any) -> str | None:
    """Which key is for photographs, where nothing says that the inputs are such; None: there is none."""
    key = next((key for key in OF_PHOTOGRAPHS if getattr(job, key) is not None), None)
    if key is None:
        return None
    return (
        f"{key}: is for photographs; add `fit: tile` if the inputs are such, whose results have no place on "
        f"the ground, else leave {key} out"
    )


def unsuited_photographs(job: Any) -> str | None:
    """Which key contradicts that the inputs are photographs, and why; None where all go together.

    Such a key is refused rather than ignored: who wrote it relies on it.
    """
    checks = {
        "aoi": (job.aoi is not None, "photographs have no place; rules have `region_of_interest`"),
        "resolution": (job.resolution is not None, "photographs have no place; leave it out"),
        "bands": (
            any(isinstance(band, str) for band in job.bands or ()),
            "those of a photograph go by number, such as [1, 2, 3]",
        ),
        "scale": (job.scale == "metadata", "photographs say no reflectance; divide or stretch their values"),
        "nodata": (
            isinstance(job.nodata, float),
            "every pixel of a photograph counts; rules have `region_of_interest`",
        ),
        "on_bad_block": (job.on_bad_block == "nodata", "photographs are decoded as a whole; leave it out"),
        "shard_tiles": (job.shard_tiles is not None, "photographs are recorded as a whole; leave it out"),
        "inputs": (
            _has_scenes(job.inputs),
            "photographs are one file each; name a folder, a glob or a manifest",
        ),
        "halo": (
            job.fit == "resize" and job.halo not in ("auto", 0),
            "with fit: resize a photograph is one tile, without neighbours; leave it out",
        ),
        "probabilities": (
            job.probabilities is not False,
            "a photograph keeps the winner's alone (`confidence: true`); leave it out",
        ),
        "threshold": (
            bool(job.threshold) and job.fit == "resize",
            "images that are resized are classified as they are; leave it out",
        ),
        "ignore_below": (
            job.ignore_below is not None and job.fit == "resize",
            "images that are resized are classified as they are; leave it out",
        ),
        "tta": (
            job.fit == "resize" and job.tta == "d4",
            "images that are resized keep their sides only where they are mirrored; set tta: flips",
        ),
        "blend": (
            job.fit == "resize" and job.blend != "none",
            "with fit: resize a photograph is one tile, without neighbours; leave it out",
        ),
        "compress": (
            job.compress != "deflate" and job.mask_format != "tif",
            "PNG masks are deflated; set mask_format: tif",
        ),
        "allow_vrt": (job.allow_vrt, "a photograph is never a VRT; leave it out"),
        "masks": (job.masks == "failed" and not job.rules, "nothing fails without `rules`; name some"),
    }
    said = next(key for key in SAYS_PHOTOGRAPHS if getattr(job, key) is not None)
    return next(
        (
            f"{key}: {why} (`{said}` says that the inputs are photographs)"
            for key, (wrong, why) in checks.items()
            if wrong
        ),
        None,
    )


def _has_scenes(inputs: Any) -> bool:
    """Whether an input says how several files make a scene."""
    given = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, list) else [inputs]
    return any(isinstance(one, schema_parts.SceneSet) for one in given)
