"""Tasks on a Ray cluster. Only this folder imports Ray.

Enters: tasks. Leaves: outcomes. `executor` puts the parts together:

- `cluster` starts a cluster or joins one, whose `head` it asks first; `hosts` knows which of its hosts
  answer, and `versions` asks which batchseg they have.
- `fleet` has as many predictors as there is room for, `seats` the actors and who died, `slots` what the
  driver was told of them; `predictors` is the actor itself.
- `leases` (with `lease_queue`), `finishes` and `groups` have the tasks of their kind that are under way, and
  `headers` reads headers; `tasks` has the steps that run in Ray's processes.
- `failures` says what an error of Ray means.
"""
