import pytest

from batchseg.system.json_text import DEPTH, parse_json


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("data", ['{"a": [1, null, "x"]}', b'{"a": [1, null, "x"]}', '\n{"a":[1,null,"x"]}'])
def test_text_and_bytes_give_their_value(data):
    assert parse_json(data) == {"a": [1, None, "x"]}


@pytest.mark.parametrize("value", ["7", '"a"', "[]", "{}", nested(DEPTH), "[" + nested(DEPTH - 1) + "]"])
def test_what_is_nested_as_deep_as_it_may_be_is_read(value):
    parse_json(value)


@pytest.mark.parametrize(
    "value", [nested(DEPTH + 1), nested(900), nested(100_000), '{"a":' * 100_000, '[{"a": ' + nested(DEPTH)]
)
def test_what_is_nested_deeper_is_no_value(value):
    with pytest.raises(ValueError, match=r"nested more than 200 deep|Expecting"):
        parse_json(value)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", "{", "9" * 5000, b"{'a': 1}"])
def test_what_is_no_json_is_a_value_error(data):
    with pytest.raises(ValueError):
        parse_json(data)
