"""Images that a job names beside its inputs: of a truth, or good ones."""

from dataclasses import fields

import pyarrow as pa

from batchseg.errors import ConfigError
from batchseg.inputs.listing import list_inputs
from batchseg.job.settings import JobConfig, Photographs


def list_beside(
    config: JobConfig, key: str, pattern: str, photographs: Photographs | None
) -> tuple[pa.Table, JobConfig]:
    """What a folder, a glob or a manifest holds.

    Args:
        config: the job.
        key: of the job that names it, such as `gate: truth: images`.
        pattern: the folder, glob or manifest.
        photographs: as these it is listed; None: as rasters.

    Returns:
        LISTING, at least one row, and the job that has it as its inputs.

    Raises:
        ConfigError: nothing is there, or it cannot be listed.
    """
    # Of a job from Python only JobConfig's own constructor takes its fields.
    values = {one.name: getattr(config, one.name) for one in fields(JobConfig)}
    values |= {"inputs": ((None, pattern),), "photographs": photographs, "allow_empty": True}
    listed = JobConfig(**values)
    try:
        found = list_inputs(listed, {})[0]
    except ConfigError as e:
        msg = f"{config.path}: {key}: {str(e).removeprefix(f'{config.path}: inputs: ')}"
        raise ConfigError(msg) from e
    if not found.num_rows:
        msg = f"{config.path}: {key}: {pattern} matches no file; check the path"
        raise ConfigError(msg)
    return found, listed
