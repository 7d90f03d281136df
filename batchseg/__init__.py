"""batchseg segments whole image archives with PaddleSeg models: tiled, distributed, resumable.

    import batchseg

    job = batchseg.load_job("job.yaml", halo=32)
    report = batchseg.run(job, progress=True)
    regions = batchseg.open(job).regions()

Names are loaded when they are asked for: workers import the package too, and `import batchseg` is instant.

Each folder is a room with one task, which its docstring says; docs/design/flow.md has the way of a pixel.
"""

import importlib
from typing import TYPE_CHECKING, Any

from batchseg import errors

if TYPE_CHECKING:
    from batchseg.api.jobs import Job, load_job
    from batchseg.api.outputs import Output, open
    from batchseg.api.plans import Plan
    from batchseg.api.runs import plan, run
    from batchseg.driver.report import Report

__version__ = "0.1.0"

__all__ = [
    "Job",
    "load_job",
    "plan",
    "Plan",
    "run",
    "Report",
    "open",
    "Output",
    "errors",
    "__version__",
]

_HOMES = {
    "Job": "batchseg.api.jobs",
    "load_job": "batchseg.api.jobs",
    "plan": "batchseg.api.runs",
    "Plan": "batchseg.api.plans",
    "run": "batchseg.api.runs",
    "Report": "batchseg.driver.report",
    "open": "batchseg.api.outputs",
    "Output": "batchseg.api.outputs",
}
"""The module that each name comes from."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'batchseg' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
