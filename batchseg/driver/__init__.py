"""A run: its plan, its queues, its loops, its commits and events, and the tasks that it sends out.

Enters: a job. Leaves: an output, finished or fit to be resumed, and a report. It prints nothing. The driver
holds references and records, never pixels; `scene_worker` and `photo_worker` are what its tasks do, and they
hold pixels. `executors` is where they run; `tasks` says what an executor is.

The way of a run: `begin`, `job`, `kind`, then `scene_run` or `photo_run`, its loop, `commit`, `report`. A
loop takes work from its queue, hands it to an executor, commits what comes back, and asks who is to blame for
what does not (`scene_failures`, `photo_failures`). Headers of scenes come in meanwhile (`intake`), and `plan`
cuts the scenes into shards. `batchseg plan` is `dry_run`, which prepares what a run prepares (`prepare`). A
run's summary.json is written by `report`.
"""
