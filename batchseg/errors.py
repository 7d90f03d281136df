"""What can go wrong, and the exit code that says so to cron.

    BatchsegError               1  a defect of batchseg itself
    ├── ConfigError             2  the job file or its inputs are wrong
    ├── ModelError              4  the model cannot be used
    ├── StoppedError            5  stopped in time or by the environment; the same command resumes
    │   ├── DeadlineError       5  at the deadline; `--deadline-exit-code` gives it another
    │   ├── OutputError         5  the output or its ledger cannot be written or read
    │   └── CredentialsError    5  a storage refuses the credentials
    ├── LockedError             6  another run holds this output
    └── SourceError             -  one source's problem: quarantined or tried again, never the run's end
        ├── SourceChangedError  -  another version of the source appeared while it was read
        ├── SourceIOError       5  the storage failed, not the content; ends a run only outside of any source
        ├── DamagedResultError  -  its mask, from which something is to be derived, is not the recorded one
        ├── NoRoomError         -  what is to be made of it takes more memory than the machine has
        ├── GridError           -  a scene's files lie on grids that the job does not say how to join
        └── MismatchError       -  a sound photograph, of other bands or values than the model takes

Exit code 0 means all done or nothing to do; 3 means finished with sources newly quarantined or failed.
"""

EXIT_OK = 0
EXIT_DEFECT = 1
EXIT_QUARANTINED = 3


class BatchsegError(Exception):
    """Base of all errors that batchseg words for its user.

    Its arguments are its lines. A line break within one of them is of a name that it quotes, and is escaped
    where the error is shown.
    """

    exit_code = 1

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "\n".join(self.lines)


class ConfigError(BatchsegError):
    """The job file, a command-line value or the set of inputs is wrong; nothing was started."""

    exit_code = 2


class ModelError(BatchsegError):
    """The model directory is incomplete, or its network does not do what the job needs."""

    exit_code = 4


class StoppedError(BatchsegError):
    """The run ended early (signal, deadline, failing environment); what was done is recorded."""

    exit_code = 5


class DeadlineError(StoppedError):
    """The run ended at its deadline, and nothing else was wrong."""


class OutputError(StoppedError):
    """The output or its ledger failed; no source is blamed."""


class CredentialsError(StoppedError):
    """A storage says that the credentials are expired or unknown; no source is blamed."""


class LockedError(BatchsegError):
    """Another run holds the output."""

    exit_code = 6


class SourceError(BatchsegError):
    """One source cannot be processed as it is, because of its content: it is quarantined."""

    transient = False


class SourceChangedError(SourceError):
    """The source's tag differs before and after a read: the pixels may mix two versions."""

    transient = True


class DamagedResultError(SourceError):
    """A source's mask is not the one that was recorded; the next run predicts it again."""

    transient = True


class SourceIOError(SourceError):
    """The storage refused or lost the source; the next run tries it again."""

    exit_code = 5
    """Where it comes up outside of any one source's work: a listing of sidecars, say, that fails."""
    transient = True


class NoRoomError(SourceError):
    """What is to be made of a sound source takes more memory than this machine has; another may have it."""

    transient = True


class GridError(SourceError):
    """A scene's files are sound, but lie on several grids, and nothing says how to join them."""


class MismatchError(SourceError):
    """A photograph is sound, but its bands or values are not what the model takes."""
