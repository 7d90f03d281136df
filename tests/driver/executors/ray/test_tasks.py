"""What Ray runs beside predictors."""

import os

from batchseg.driver.executors.ray import tasks


def call(task, *arguments):
    return task._function({}, *arguments)


def test_tasks_reserve_nothing_and_ray_repeats_none():
    named = (value for value in vars(tasks).values() if hasattr(value, "_function"))
    options = {task._function.__name__: task._default_options for task in named}
    assert options.keys() == {*("headers", "headers_alone", "samples", "finish", "inspect_group")}
    assert all((told["num_cpus"], told["max_retries"]) == (0, 0) for told in options.values())


def test_ray_reports_to_nobody():
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
