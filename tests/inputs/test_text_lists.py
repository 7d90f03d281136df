import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.inputs import text_lists
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.manifest_parts import LINE
from batchseg.inputs.text_lists import OddLines, path_blocks, text_blocks


def lines(text: bytes, odd: OddLines | None = None) -> list[str]:
    return [path for paths in path_blocks(io.BytesIO(text), odd or OddLines()) for path in paths]


@given(st.text(alphabet="ab \n\r\x0b\x1c\u2028ü#", max_size=40), st.integers(1, 8))
def test_blocks_are_whole_lines_by_their_numbers(text, piece):
    whole = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lists, "LINE", piece)
        try:
            blocks = list(text_blocks(io.BytesIO(text.encode())))
        except ValueError:
            assert max(map(len, whole)) > piece
            return
    assert "".join(block for _, block in blocks) == text
    for number, block in blocks:
        assert "".join(whole[number - 1 :]).startswith(block)
    wanted = [line.strip() for line in whole]
    assert lines(text.encode()) == [line for line in wanted if line and line[0] != "#"]


def test_a_line_in_another_encoding_costs_no_other_line():
    odd = OddLines()
    assert lines(b"\xef\xbb\xbfa.jpg\nfr\xfch.jpg\r\n\xc3\xbc.jpg\nc\xff.jpg", odd) == ["a.jpg", "ü.jpg"]
    assert odd.told("/in/list.txt") == [
        "list.txt: lines 2, 4 are left out: not UTF-8 (character 3 of line 2 is byte 0xfc); save the list as "
        "UTF-8"
    ]


@pytest.mark.parametrize("text", [b"fr\xfch.jpg\n", "a.jpg\n".encode("utf-16"), b"\xff\xfe\x00\x01"])
def test_a_list_that_is_all_in_another_encoding_is_refused(text):
    with pytest.raises(ValueError, match=r"not UTF-8.*; save it as UTF-8"):
        lines(text)


def test_the_file_stays_open_and_can_be_read_again():
    file = io.BytesIO(b"\xef\xbb\xbfa\n")
    for _ in range(2):
        file.seek(0)
        assert list(text_blocks(file)) == [(1, "a\n")]


def test_a_line_as_long_as_a_line_may_be_is_read():
    assert [len(path) for path in lines(b"a\n" + b"b" * LINE + b"\nc\n")] == [1, LINE, 1]
    with pytest.raises(ValueError, match="line 2 has more than 1,048,576 characters"):
        lines(b"a\n" + b"b" * (LINE + 1) + b"\nc\n")


def test_comments_are_counted_and_lines_of_nothing_are_empty():
    odd, left_out = OddLines(), LeftOut()
    assert lines(b"# gr\xfcn\na\n;;\n./#b\n #c\n\x1a\nd\x1a", odd) == ["a", "./#b", "d"]
    odd.tell(left_out, "/in/list.txt")
    assert left_out.lines() == ("2 lines of list.txt begin with #: taken for comments; ./#name is a path",)
    assert left_out.unread == []
