"""Where tasks run: one after the other in this process (`inline`), or on a Ray cluster (`ray`).

Both are a `driver.tasks.Executor`: tasks in, outcomes out, in any order. Errors come as failures, which say
of what kind they are and blame nobody. `start` makes the one that a job asks for; another one is added there.
`watched` gives up an executor whose engine no longer answers.

On Ray, `ray` puts these parts together:

- `ray_cluster` starts a cluster or joins one; `ray_hosts` knows which of its hosts answer.
- `ray_fleet` has as many predictors as there is room for, `ray_seats` the actors and who died, `ray_slots`
  what the driver was told of them; `ray_predictors` is the actor itself.
- `ray_leases` (with `ray_lease_queue`), `ray_finishes` and `ray_groups` have the tasks of their kind that are
  under way, and `ray_headers` reads headers; `ray_tasks` has the steps that run in Ray's processes.
- `ray_failures` says what an error of Ray means.

Only modules named `ray` and `ray_*` import Ray.
"""
