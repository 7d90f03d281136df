"""Faults for runs in other processes: Python imports this module when PYTHONPATH names its folder.

Environment: FAULT_COUNT a file that gets a line for each tile that a predictor worked on: its row and
column (of a photograph its number, and 0), and the source's id; FAULT_SLOW seconds per tile. FAULT_SPILL
lets Ray spill all objects; FAULT_CACHE is BATCHSEG_MODEL_CACHE. The other modules here say the rest.
"""

import os
import sys

RAYS_OWN = ("dashboard", "runtime_env/agent", "log_monitor", "monitor.py")
"""Processes that Ray waits for 30 s to start: these imports take longer on a machine that is busy."""

if "FAULT_SPILL" in os.environ:
    os.environ |= {"RAY_object_spilling_threshold": "0.0001", "RAY_min_spilling_size": "0"}
if "FAULT_CACHE" in os.environ:
    os.environ["BATCHSEG_MODEL_CACHE"] = os.environ["FAULT_CACHE"]

if any(name.startswith("FAULT_") for name in os.environ) and not any(
    part in argument for part in RAYS_OWN for argument in sys.orig_argv
):
    import faulty_outputs
    import faulty_steps

    faulty_steps.install()
    faulty_outputs.install()
