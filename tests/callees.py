"""Functions that processes of the Python face call in tests: they are found by name."""

import os
import signal
import sys
import time
from pathlib import Path

from batchseg.errors import ConfigError
from batchseg.system.redact import remember_variables


def tell_three(first, second, host):
    for number in range(3):
        host.tell(number)
    return os.getpid(), first, second


def change_everything(host):
    os.environ["HOME"] = "/changed"
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout.write("chatter\n")
    sys.stdout.flush()
    return dict(os.environ)


def refuse(host):
    raise ConfigError("tile_size: no")


def refuse_a_name(host):
    remember_variables({"WHERE": "/mnt/archive"})
    raise ConfigError("cannot read s3://key:SEC/RET@b/a\x1b[2J\n/mnt/archive/b", "  or\udcff")


def fail(host):
    return {}["absent"]


class StubbornError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def fail_with_what_cannot_be_sent(host):
    raise StubbornError(1, 2)


def die(number, host):
    sys.stdout.write("last words\n")
    sys.stdout.flush()
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(host):
    os._exit(3)


def work_until_stopped(path, host):
    """Writes its process id, and at the end why it was told to stop."""
    Path(path).write_text(str(os.getpid()))
    while (reason := host.stop()) is None:
        host.tell("working")
        time.sleep(0.01)
    Path(path).write_text(reason)
    return reason
