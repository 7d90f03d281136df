"""A run: its plan, its queues, its loops, its commits and events, and the tasks that it sends out.

Enters: a job. Leaves: an output, finished or fit to be resumed, and a report. It prints nothing. The driver
holds references and records, never pixels; `scene_worker` and `photo_worker` are what its tasks do, and they
hold pixels. `executors` is where they run; `tasks` says what an executor is.

The way of a run: `begin`, `job`, `kind`, then `scene_run` or `photo_run`, its loop, `commit`, `report`. A
loop takes work from its queue, hands it to an executor, commits what comes back, and asks who is to blame for
what does not (`scene_failures`, `photo_failures`). `batchseg plan` is `dry_run`; `plan` cuts scenes into
shards. A run's summary.json is written by `report`.
"""
