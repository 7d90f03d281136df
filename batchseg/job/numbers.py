"""What `result: values` asks of a model, and what comes of its numbers."""

from batchseg.errors import ConfigError, ModelError
from batchseg.job.settings import JobConfig
from batchseg.models.package import PALETTE, ClassInfo, ModelFacts, ModelPackage

SIDES = ("below the threshold", "above the threshold")
"""Names of the two classes that a threshold makes, where the job has none."""


def check_numbers(config: JobConfig, model: ModelPackage, facts: ModelFacts) -> None:
    """Refuse a job that wants numbers of a network that gives classes, or classes of one that gives numbers.

    Raises:
        ConfigError: another `result` is right.
        ModelError: the network cannot give what is asked for.
    """
    if config.values is None:
        if facts.output == "values":
            msg = f"{config.path}: {model.network} says that it gives numbers; add result: values"
            raise ConfigError(msg)
        return
    if facts.output != "values":
        msg = (
            f"{config.path}: result: values is for networks that give one band of floats a pixel; "
            f"{model.network} gives {facts.output}: leave it out"
        )
        raise ModelError(msg)
    if config.precision == "int8" and not model.quantized:
        msg = f"{config.path}: precision: int8: networks are quantised by their classes; values have none"
        raise ConfigError(msg)


def class_count_of(config: JobConfig) -> int | None:
    """Two with a threshold, else none; None where the network tells classes."""
    return None if config.values is None else 2 * config.values.divides


def sides(config: JobConfig) -> tuple[ClassInfo, ...]:
    """Names and colours of the classes that a threshold makes."""
    if config.values is None or not config.values.divides:
        return ()
    return tuple(ClassInfo(name=name, color=PALETTE[i]) for i, name in enumerate(SIDES))
