"""How the process ends, whatever comes while it does."""

import subprocess
import sys

import pytest

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
