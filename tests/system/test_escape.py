import traceback
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from names import ACTING, NAMES, acts

from batchseg.errors import LockedError
from batchseg.system.escape import code_of, escaped, shown, shown_traceback


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


@pytest.mark.parametrize(
    "name",
    [
        "فارسی\u200cها.tif",  # noqa: RUF001
        "क\u200dष.tif",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467.tif",
        "\u2764\ufe0f\u200d\U0001f525.tif",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.tif",
        "\U0001fae9 \U0001fadf \U0001faff.tif",
    ],
)
def test_joiners_and_emoji_stay(name: str) -> None:
    assert escaped(name) == name
    assert escaped(f"{name}\n") == f"{name}\\n"


@pytest.mark.parametrize(
    "name",
    [
        "\u200ca",
        "a\u200d",
        "a \u200db",
        "a\u200c\u200cb",
        "a\u200d\u3000b",
        "a\n\u200db",
        "a\u200d\u202eb",
        "a\U000e0067\U000e007f",
        "\U0001f3f4\U000e0067\U000e0062",
        "\U0001f3f4\U000e0067\U000e007f",
        "\U0001f3f4" + "\U000e0061" * 7 + "\U000e007f",
        "\U0001f3f4\U000e0041\U000e0042\U000e0043\U000e007f",
        "\U0001fb00\U0003fffd\U00010fff",
    ],
)
def test_what_joins_nothing_is_shown_as_its_code(name: str) -> None:
    kept = "ab \u3000\U0001f3f4\U0001fb00"
    assert escaped(name) == "".join(c if c in kept else code_of(c) for c in name)


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
