"""The job file's key `values`, and what it and `result` say of other keys."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from batchseg.job import schema_parts


class GoodImages(schema_parts.Strict):
    percentile: schema_parts.Finite = Field(ge=0, le=100)
    """Of the highest number of each image; 100 is the highest of all."""
    of: Annotated[str, Field(min_length=1)]
    """A folder, a glob or a manifest of images that show nothing wrong."""


class Values(schema_parts.Strict):
    dtype: Literal["float32", "uint16"] = "float32"
    """`float32` writes the numbers as they are, no data as NaN. `uint16` takes half of the room, and no data
    is 65535."""
    scale: schema_parts.Finite | None = Field(default=None, gt=0)
    """Of `uint16`, which needs it: a number is `stored * scale + offset`. What lies beyond is clipped."""
    offset: schema_parts.Finite | None = None
    """Of `uint16`: the number that is stored as 0; 0 if not set."""
    threshold: schema_parts.Finite | GoodImages | None = None
    """What is above it is class 1, the rest class 0: a mask, regions and rules. A number, or `{percentile:
    99, of: good/}`: [measured on good images](#keys-of-threshold) before the first run. If not set there are
    numbers alone."""

    @model_validator(mode="after")
    def _suits_dtype(self) -> "Values":
        if self.dtype == "float32" and (self.scale is not None or self.offset is not None):
            msg = "scale and offset are of dtype: uint16; numbers in float32 are written as they are"
            raise ValueError(msg)
        if self.dtype == "uint16" and self.scale is None:
            msg = "dtype: uint16 needs a scale, such as 0.0001 for numbers from 0 to 6.5"
            raise ValueError(msg)
        return self


def unsuited_values(job: Any) -> str | None:
    """Which key does not go with numbers, or is for them alone, and why; None where all go together.

    Args:
        job: a `schema.JobFile`, which imports this.
    """
    if job.result != "values":
        return None if job.values is None else "values: is for networks that give numbers; add result: values"
    divided = job.values is not None and job.values.threshold is not None
    model = job.model if isinstance(job.model, schema_parts.Model) else None
    measured = job.values is not None and isinstance(job.values.threshold, GoodImages)
    needed = "needs values: {threshold: ...}, which makes classes of numbers"
    checks = {
        "confidence": (job.confidence, "numbers are no probabilities; leave it out"),
        "num_classes": (job.num_classes is not None, "numbers have no classes; leave it out"),
        "classes": (
            bool(job.classes) and (not divided or len(job.classes) != 2),
            "a threshold makes two, what is not above it and what is; name these two" if divided else needed,
        ),
        "rules": (bool(job.rules) and not divided, needed),
        "regions": (isinstance(job.regions, schema_parts.RegionKeys) and not divided, needed),
        "merge": (bool(job.merge) and not divided, needed),
        "sieve": (job.sieve is not None and not divided, needed),
        "model: output": (
            model is not None and model.output is not None,
            "result: values says what the network gives; leave it out",
        ),
        "model: threshold": (
            model is not None and model.threshold is not None,
            "is of a sigmoid that tells classes; with result: values write values: {threshold: ...}",
        ),
        "values: threshold": (
            measured and not job.of_photographs,
            "a percentile is measured on photographs; name a number for scenes",
        ),
        "gate: truth": (job.gate.truth is not None, "holds classes, and result: values has none"),
    }
    said = next(((key, why) for key, (wrong, why) in checks.items() if wrong), None)
    return None if said is None else f"{said[0]}: {said[1]}"
