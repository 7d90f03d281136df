"""Scenes or photographs: the one place that asks which of the two a job is over.

A run over scenes is spared the modules that photographs need, and the other way round: a tenth of a second
of imports. So each kind imports its own when it is asked for something.
"""

from typing import Protocol

from batchseg.driver.context import JobContext
from batchseg.driver.report import Report
from batchseg.job.settings import JobConfig


class Run(Protocol):
    def go(self, *, replace: bool) -> Report: ...


class Kind(Protocol):
    """What is different about a job over scenes and a job over photographs."""

    def run(self, context: JobContext) -> Run: ...


class SceneKind:
    def run(self, context: JobContext) -> Run:
        from batchseg.driver.scene_run import SceneRun

        return SceneRun(context)


class PhotoKind:
    def run(self, context: JobContext) -> Run:
        from batchseg.driver.photo_run import PhotoRun

        return PhotoRun(context)


def kind_of(config: JobConfig) -> Kind:
    return SceneKind() if config.photographs is None else PhotoKind()
