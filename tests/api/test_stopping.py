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


WAITING = """
import time
from concurrent.futures import ThreadPoolExecutor
from batchseg.api.stopping import end_children_at_interrupt
from batchseg.system.processes import call_in_fresh_process

end_children_at_interrupt()
try:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call_in_fresh_process, time.sleep, 100, timeout=100)
        print("waiting", flush=True)
        answer.exception()
except KeyboardInterrupt:
    print("interrupted", answer.exception())
"""


def test_an_interrupt_ends_the_processes_that_are_waited_for() -> None:
    waiting = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    waiting.send_signal(signal.SIGINT)  # to it alone: a terminal's goes to the processes too
    assert waiting.communicate(timeout=50)[0] == "interrupted was ended by SIGKILL\n"


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal; from batchseg.api.stopping import end_children_at_interrupt\n"
            "end_children_at_interrupt(); os.kill(os.getpid(), signal.SIGINT); print('goes on')",
        ],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert ended.stdout == "goes on\n"


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
