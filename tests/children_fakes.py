"""Processes of the executor `processes` that tests let answer and die."""

import signal
from concurrent.futures import Future

from batchseg.driver.executors.processes.child import ChildDiedError


class FakeChild:
    """What is asked of it is in `asked`; it answers when a test says so."""

    def __init__(self):
        self.asked, self.ended, self.is_given_up, self.taken_back = [], None, False, []

    @property
    def load(self):
        return sum(not (future.done() or future in self.taken_back) for _, future in self.asked)

    def ask(self, what, *given):
        future = Future()
        if self.ended is not None:
            future.set_exception(self.ended)
        self.asked.append(((what, *given), future))
        return future

    @property
    def pid(self):
        return id(self)

    def future(self, what):
        """Of the last question of that name."""
        return next(future for (name, *_), future in reversed(self.asked) if name == what)

    def take_back(self, future):
        self.taken_back.append(future)

    def die(self, code=-signal.SIGSEGV, *, memory=False):
        self.ended = ChildDiedError(code, was_ended=self.is_given_up, memory=memory)
        for _, future in self.asked:
            if not future.done():
                future.set_exception(self.ended)

    def kill(self):
        if self.ended is None:
            self.is_given_up = True
            self.die(-signal.SIGKILL)

    def wait_end(self):
        """It is gone at once."""
