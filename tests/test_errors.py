"""The tree of errors in the module's docstring is the tree of classes, and errors arrive as they left."""

import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

from batchseg import errors
from batchseg.errors import BatchsegError, SourceError

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, Exception)
}


def documented() -> Iterator[tuple[str, str, str]]:
    """(class, its base, exit code) of each line of the tree."""
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([ │├└─]+)(\w+Error) +(\d|-) ", line)
        if found:
            depth = found.start(2)
            above = [(at, name) for at, name in above if at < depth]
            yield found[2], above[-1][1] if above else "Exception", found[3]
            above.append((depth, found[2]))


def test_the_docstring_names_every_class_its_base_and_its_exit_code() -> None:
    tree = list(documented())
    assert sorted(name for name, _, _ in tree) == sorted(CLASSES)
    for name, base, code in tree:
        found = CLASSES[name]
        assert [parent.__name__ for parent in found.__bases__] == [base]
        assert found.exit_code == (BatchsegError.exit_code if code == "-" else int(code)), name


def test_no_error_ends_like_a_run_that_did_its_work() -> None:
    codes = {found.exit_code for found in CLASSES.values()}
    assert codes.isdisjoint({errors.EXIT_OK, errors.EXIT_QUARANTINED})
    assert BatchsegError.exit_code == errors.EXIT_DEFECT


def test_what_another_run_may_read_is_transient_and_what_content_is_wrong_is_not() -> None:
    """A transient problem is tried again by the next run, the others wait for another version."""
    transient = {name for name, found in CLASSES.items() if getattr(found, "transient", False)}
    assert transient == {"SourceChangedError", "SourceIOError", "DamagedResultError", "NoRoomError"}
    assert all(issubclass(CLASSES[name], SourceError) for name in transient)


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_of_another_process_is_the_same(name: str) -> None:
    error = CLASSES[name]("scene.tif: block 7 is cut off")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == "scene.tif: block 7 is cut off"


def test_an_errors_arguments_are_its_lines():
    error = pickle.loads(pickle.dumps(errors.ConfigError("a", "  b")))
    assert (str(error), error.lines) == ("a\n  b", ("a", "  b"))
    assert errors.ConfigError("a\nb").lines == ("a\nb",), "a line break of a name is none of ours"
