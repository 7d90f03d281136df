"""Paddle Inference's configuration as tests record it."""

import re
from typing import Any

from batchseg.engines.paddle import import_paddle

inference = import_paddle()


class Recorder:
    """Takes the calls of a Config, and fails for one that the real Config does not have so."""

    def __init__(self, *files: str) -> None:
        self.files = files
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        signature = str(getattr(inference.Config, name).__doc__).splitlines()[0]

        def call(*arguments: Any, **keywords: Any) -> bool:
            names, required = parameters(signature)
            assert len(arguments) + len(keywords) <= len(names), signature
            assert set(keywords) <= set(names[len(arguments) :]), signature
            assert set(required) <= {*names[: len(arguments)], *keywords}, signature
            self.calls.append((name, arguments, keywords))
            return True

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def arguments(self, name: str) -> Any:
        (found,) = [(given, keywords) for called, given, keywords in self.calls if called == name]
        return found


def parameters(signature: str) -> tuple[list[str], list[str]]:
    """All and the required ones of a pybind docstring, without self.

    >>> parameters("f(self: a.Config, arg0: str, x: dict[str, int] = {}) -> None")
    (['arg0', 'x'], ['arg0'])
    """
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    found = re.findall(r"(?:^|, )(\w+): ((?:[^,\[]|\[[^\]]*\])+)", inside)[1:]
    return [name for name, _ in found], [name for name, rest in found if " = " not in rest]
