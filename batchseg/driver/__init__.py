"""A run: its plan, its queues, its loops, its commits and events, and the tasks that it sends out.

Enters: a job. Leaves: a finished output and a report. The driver holds references and records, never pixels.
It prints nothing.

`job` does one run, `kind` knows over what, and `scene_run` and `photo_run` have its steps in their order. A
loop (`scene_loop`, `photo_loop`) takes work from its queue, hands it to an executor, commits what comes back,
and asks who is to blame for what does not (`scene_failures`, `photo_failures`). `scene_worker` and
`photo_worker` are what tasks do; `executors` is where they run.
"""
