"""Networks that were quantised on an output's own tiles: every host and every later run takes the same."""

import shutil
import tempfile
from pathlib import Path

from batchseg.errors import OutputError
from batchseg.job.recipe import Quantized
from batchseg.output import layout
from batchseg.output.publish import publish_file
from batchseg.system.location import Location
from batchseg.system.temp_folders import cache_root


def store(output: str, made: Quantized) -> Quantized:
    """Copy a quantised network into an output; the same one again is no harm.

    Args:
        output: root of the results.
        made: as `predict.calibrate` made it, in a folder of this machine.

    Returns:
        Where it is now: for recipes, and to be recorded; `predict.kept_network` reads it.

    Raises:
        OutputError: it cannot be written.
    """
    local = Location.of(made.root).below(made.path).path
    if local is None:
        msg = f"{made.root} is no folder of this machine; a network is kept where it was made"
        raise OutputError(msg)
    path = layout.network_path(made.digest)
    with tempfile.TemporaryDirectory(prefix="int8-", dir=cache_root()) as folder:
        copy = Path(folder) / local.name  # publishing moves it
        shutil.copyfile(local, copy)
        publish_file(copy, Location.of(output).below(path))
    return Quantized(root=output, path=path, digest=made.digest)
