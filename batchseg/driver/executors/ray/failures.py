"""What Ray's errors mean: lost with a host or for lack of memory, no room, or the end of a step's process.

A failure's kind decides whom the driver blames, so the reading of Ray's errors is in one place.
"""

from ray import exceptions as ray_errors

from batchseg.driver.tasks import Failure, Step
from batchseg.errors import StoppedError
from batchseg.system.disks import describe, full_disks, is_full

FULL_ERRORS = (ray_errors.OutOfDiskError, ray_errors.ObjectStoreFullError)

LOST_ERRORS = (
    ray_errors.OutOfMemoryError,
    ray_errors.NodeDiedError,
    ray_errors.LocalRayletDiedError,
    ray_errors.ObjectLostError,
    ray_errors.OwnerDiedError,
    ray_errors.RuntimeEnvSetupError,
    ray_errors.TaskCancelledError,
)


def cause_of(error: BaseException) -> BaseException:
    """The error of the task in which it happened: what waited for that task has one that wraps it."""
    return getattr(error, "cause", None) or error


def failure_of(error: BaseException, step: Step) -> Failure:
    """A Ray error as a failure: lost with a node or to the out-of-memory killer, or a crash.

    A process that touches shared memory on a full disk is ended by SIGBUS: no source is to blame for it.
    """
    if isinstance(error, FULL_ERRORS) or is_full(error) or full_disks():
        said = describe(error) if isinstance(error, OSError) else f"{first_line(error)}; make room, run again"
        left = "; ".join(full_disks()) or "Ray keeps data in /dev/shm and in the temporary folder (TMPDIR)"
        msg = f"no room for Ray's data: {said} ({left})"
        return Failure(kind="lost", step=step, reason=msg, fatal=StoppedError(msg))
    if isinstance(error, LOST_ERRORS):
        memory = isinstance(error, ray_errors.OutOfMemoryError)
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Failure(kind="lost", step=step, reason=reason, memory=memory)
    return Failure(kind="crash", step=step, reason=f"{step}ing it ended the process: {type(error).__name__}")


def lost_with_host(step: Step) -> Failure:
    return Failure(kind="lost", step=step, reason="the host that it was on is lost, or its predictor was")


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
