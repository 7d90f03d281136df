import datetime as dt
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.system.yaml_text import (
    NUMBER_CHARACTERS,
    YAML_BYTES,
    YAML_VALUES,
    TooLargeError,
    parse_yaml,
    read_yaml,
)


def refusal(text: str | bytes) -> str:
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    return str(caught.value)


def laughs(levels: int, width: int = 9) -> str:
    """Aliases of aliases: width ** levels values."""
    lines = ["a0: &a0 [ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


def merges(levels: int, width: int = 9) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * width)}]}}" for n in range(1, levels + 1)]
    return "\n".join(lines)


def test_plain_values_are_read(tmp_path):
    text = "a: [1, 0x10, 2.5, yes, null, 2026-11-28, .nan]\nb: {c: 'd', e: f}\n"
    (tmp_path / "a.yaml").write_text(text)
    value = read_yaml(tmp_path / "a.yaml")
    assert value["a"][:6] == [1, 16, 2.5, True, None, dt.date(2026, 11, 28)]
    assert value["b"] == {"c": "d", "e": "f"}
    assert parse_yaml("") is None


def test_aliases_and_merges_that_stay_small_are_followed():
    assert parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}")["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (laughs(9), "line 5, column 5: more than 20,000 values"),
        ("x: " + "[0," * 3 + "]]]\n" + laughs(4, 20), "more than 20,000 values"),
        (merges(9), "more than 20,000 values"),
        ("[" + "0," * YAML_VALUES + "]", "more than 20,000 values"),
        ("a: &a [*a]", "an alias contains itself"),
        ("a: &a {b: *a}", "an alias contains itself"),
        ("a: *b", "undefined alias"),
        ("{a: 1, b: 2, a: 3}", "the key 'a' is given twice"),
        ("[" * 5000, "nested too deeply"),
        ("- " * 5000, "nested too deeply"),
        ("{[a]: 1}", "unhashable"),
        (b"a: \xff", "codec"),
        ("a: \x07", "special characters"),
        ("!!python/object/apply:os.mkdir ['x']", "could not determine a constructor"),
        ("!!int " + "9" * 101, f"more than {NUMBER_CHARACTERS} characters"),
        ("0x" + "f" * 5000, f"more than {NUMBER_CHARACTERS} characters"),
        ("1" + ":59" * 300_000, f"more than {NUMBER_CHARACTERS} characters"),
        ("1" + ":59" * 300 + ".5", f"more than {NUMBER_CHARACTERS} characters"),
    ],
)
def test_what_would_take_memory_time_or_another_error_is_refused(text, words):
    before = time.process_time()
    assert words in refusal(text)
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    "value",
    [
        *("!!timestamp x", "!!bool x", "!!int ''", "!!int x", "!!float ''", "!!null [a]", "2026-99-99"),
        *("!!timestamp '0001-01-01T00:00:00+99:00'", "!!binary 'ä'", "!!float {a: b}", "!!omap [1]"),
        *("!!pairs x", "!!set [a]", "!!map [a]", "!!seq {a: b}", "!!str {a: b}", "!!merge x", "!!value x"),
    ],
)
def test_a_tag_that_does_not_fit_its_value_is_refused_or_left_as_text(value):
    for text in (f"a: {value}", f"? {value}\n: 1", f"a: {{<<: {value}}}"):
        try:
            parse_yaml(text)
        except ValueError as e:
            assert "\n" not in str(e)


def test_a_text_that_is_too_large_is_told_apart(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * (YAML_BYTES + 1))
    with pytest.raises(TooLargeError, match="1,048,576 bytes"):
        read_yaml(path)
    path.write_bytes(b"#" * YAML_BYTES)
    assert read_yaml(path) is None


def test_no_value_of_the_text_is_quoted():
    for text in ("password: 'SECRET", "a: !!int SECRET", "a: !!timestamp SECRET", "key: SECRET: x"):
        assert "SECRET" not in refusal(text)


PIECES = st.sampled_from(
    ["a", "&a ", "*a", "? ", ": ", "- ", "[", "]", "{", "}", ", ", "\n", "  ", "!!int ", "!!set ", "!!omap ",
     "<<: ", "'", '"', "|", ">", "#", "%YAML 1.1\n", "---\n", "...\n", "2026-01-01", "1:2", ".inf", "0o7",
     "\\", "!!timestamp ", "!!binary ", "~", "=", "!<tag:x>", "\t", "\ufeff", "é", "0b1", "1e5"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_text_gives_a_value_or_a_value_error(text):
    signal.alarm(20)
    try:
        parse_yaml(text)
    except ValueError:
        pass
    finally:
        signal.alarm(0)
