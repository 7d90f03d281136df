"""Tasks in processes of this machine, without Ray. Enters: tasks. Leaves: outcomes.

`executor` puts the parts together: `seats` has a predictor's process each, and a new one where one dies;
`child` is such a process as the driver sees it, `predictor` what runs in it; `headers` reads headers there.
"""
