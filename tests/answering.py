"""What a child of the tests runs: it answers, hangs or dies as it is asked to."""

import os
import signal
import threading
import time
from pathlib import Path


def serve(pipe, *given):
    while True:
        try:
            number, what, arguments = pipe.recv()
        except EOFError:
            os._exit(0)
        if what == "given":
            pipe.send((number, None, given))
        elif what == "say":
            pipe.send((number, None, arguments))
        elif what == "raise":
            pipe.send((number, ValueError("refused"), None))
        elif what == "look":
            score = int(Path("/proc/self/oom_score_adj").read_text())
            pipe.send((number, None, (os.environ.get("OMP_NUM_THREADS"), score)))
        elif what == "exit":
            os._exit(*arguments)
        elif what == "kill":
            os.kill(os.getpid(), *arguments)
        elif what == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif what == "compute":
            pipe.send((number, None, "begun"))
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            sum(range(10**12))  # with Python's lock held
