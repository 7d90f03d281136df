import traceback
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from names import ACTING, NAMES, acts

from batchseg.errors import LockedError
from batchseg.system.escape import escaped, shown, shown_traceback


@given(NAMES)
def test_no_name_acts_or_breaks_a_line(name: str) -> None:
    assert not acts(escaped(name))
    assert escaped(escaped(name)) == escaped(name)
    escaped(name).encode()  # halves of pairs are none of UTF-8


@pytest.mark.parametrize("character", ACTING)
def test_what_acts_is_shown_as_its_code(character: str) -> None:
    code = escaped(f"a{character}b")[1:-1]
    assert code.startswith("\\")
    assert code.encode().decode("unicode_escape") == character


@pytest.mark.parametrize(
    "name", ["a b.tif", "Größe µ.png", "画像\u3000一.jpg", "c\\x1b.tif", "صورة.png", "🛰.tif"]
)
def test_letters_of_all_scripts_stay(name: str) -> None:
    assert escaped(name) == name


def test_a_line_break_parts_no_credential() -> None:
    assert shown("s3://key:SEC\nRET@bucket/a") == "s3://***@bucket/a"


def raised(error: ValueError) -> ValueError:
    try:
        try:
            raise RuntimeError("within\nTraceback (most recent call last):")
        except RuntimeError as e:
            raise error from e
    except ValueError as e:
        return e


@given(NAMES)
@example("\n")
def test_a_traceback_has_lines_of_its_own_alone(name: str) -> None:
    plain = raised(ValueError("name"))
    lines = shown_traceback(raised(ValueError(f"{name}: s3://u:secret@h"))).split("\n")
    assert len(lines) == len("".join(traceback.format_exception(plain)).rstrip("\n").split("\n")) - 1
    assert not any(map(acts, lines))
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == f"ValueError: {shown(name)}: s3://***@h"


def test_a_traceback_is_pythons() -> None:
    error = raised(ValueError("plain"))
    error.add_note("one\ntwo")
    for one in (error, *error_chain()):
        printed = "".join(traceback.format_exception(one)).replace("within\n", "within\\n")
        assert shown_traceback(one) == printed.rstrip("\n")


def error_chain() -> Iterator[BaseException]:
    """Errors that came up while others were handled, one of them from nothing, one in a circle."""
    try:
        try:
            raise LockedError("first")
        except LockedError:
            raise KeyError from None
    except KeyError as e:
        yield e
    try:
        try:
            raise LockedError("first")
        except LockedError:
            {}["second"]
    except KeyError as e:
        yield e
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    yield one
