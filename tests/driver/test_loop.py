"""What the loops over scenes and over photographs share."""

import time

from scene_runs import SILENCE, Run, job

from batchseg.driver import loop


def test_draining_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "DRAIN_SECONDS", 0.05)
    run = Run(tmp_path, [job()], answer=lambda *_: SILENCE)
    run.loop._stop = lambda: "stopped" if run.executor.submissions else None
    started = time.monotonic()
    run.stopped("stopped")
    assert time.monotonic() - started < 2
