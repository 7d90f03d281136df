from batchseg.system.excerpt import LONGEST, excerpt


def test_short_values_are_quoted_whole():
    assert excerpt({"a": [1, None]}) == "{'a': [1, None]}"
    assert excerpt("a\x1b[2J\n") == r"'a\x1b[2J\n'"


def test_long_values_are_cut():
    assert len(excerpt(list(range(10_000)))) == LONGEST
    assert excerpt("a" * 500).endswith("aaa...")


def test_what_python_does_not_show_is_said_to_be_so():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert excerpt(deep) == excerpt(1 << 50_000) == "something too large to show"
    while deep:  # piece by piece, as freeing it at once goes as deep
        deep = deep.pop()
