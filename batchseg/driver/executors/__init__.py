"""Where tasks run: one after the other in this process (`inline`), or on a Ray cluster (`ray/`).

Both are a `driver.tasks.Executor`: tasks in, outcomes out, in any order. Errors come as failures, which say
of what kind they are and blame nobody. `start` makes the one that a job asks for; another one is added there.
`watched` gives up an executor whose calls no longer return.
"""
