"""How the process ends, whatever comes while it does."""

import signal
import subprocess
import sys

import pytest

from batchseg.api.stopping import Deadline
from batchseg.errors import OutputError, StoppedError

ENDING = """
import os, signal, sys
from batchseg.api.stopping import keep_exit_code, stop_signals

class Last:  # is deleted after Python has given signals back to the system
    kill = os.kill
    def __del__(self, kill=os.kill, pid=os.getpid(), number={number}):
        kill(pid, number)

last = Last()
stop_signals()
{keep}
sys.exit(3)
"""


@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_in_the_last_moment_changes_no_exit_code(number):
    codes = []
    for keep in ("keep_exit_code()", ""):
        ended = subprocess.run([sys.executable, "-c", ENDING.format(number=number, keep=keep)], check=False)
        codes.append(ended.returncode)
    assert codes == [3, -number]  # the second shows that the signal does come too late for a handler


HANGING_UP = """
import os, signal, sys
from batchseg.api.stopping import stop_signals
reason = stop_signals()
for _ in range(2):
    os.kill(os.getpid(), signal.SIGHUP)
print(reason())
"""


@pytest.mark.parametrize(("nohup", "reason"), [(False, "stopped by SIGHUP"), (True, "None")])
def test_a_session_that_ends_stops_a_run_unless_nohup_says_otherwise(nohup, reason):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    ended = subprocess.run(
        [sys.executable, "-c", HANGING_UP], check=True, capture_output=True, text=True, preexec_fn=ignore
    )
    assert ended.stdout.strip() == reason


@pytest.mark.parametrize(
    ("error", "is_why"),
    [
        (StoppedError("stopped at the deadline 06:00 [3 shards recorded]"), True),
        (StoppedError("stopped by SIGTERM"), False),
        (OutputError("stopped at the deadline 06:00"), False),
    ],
)
def test_a_deadline_knows_what_it_stopped(error, is_why):
    assert Deadline("06:00", 0.0).is_why(error) == is_why
