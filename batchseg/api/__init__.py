"""The Python face: jobs, plans, runs and outputs as values, for scripts, notebooks and the command line.

Enters: a job, or an output. Leaves: values, or errors of `batchseg.errors`. Its public names are those of the
package itself: `batchseg.run` is `batchseg.api.runs.run`. It changes nothing of the process that calls it:
what would, `own_process` does in a process of its own. It draws where a caller asks for progress.
"""
