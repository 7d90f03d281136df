"""A run: its plan, its queues, its loop, its commits and events, and the tasks that it sends out.

Enters: a job. Leaves: a finished output and a report. The driver holds references and records, never pixels.
`scene_worker` and `photo_worker` are what its tasks do; `executors` is where they run. It prints nothing.
"""
