import csv
import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.inputs import text_lists
from batchseg.inputs.csv_lists import CsvList
from batchseg.inputs.text_lists import OddLines, path_blocks

MIB = 2**20
HEADER = ["uri", "line", "note"]
CELL = st.text(alphabet='ab "ü;', max_size=6)
NOTE = st.text(alphabet='ab,"\nü', max_size=6)
ROWS = st.lists(st.tuples(CELL.map("{}.jpg".format), CELL, NOTE).map(list), min_size=3, max_size=8)


def by_rows(text: bytes, odd: OddLines) -> list[list[str]]:
    return [cells for _, cells in CsvList(io.BytesIO(text), ["uri"], odd).rows()]


def by_tables(text: bytes, odd: OddLines) -> list[list[str]]:
    tables = CsvList(io.BytesIO(text), ["uri"], odd).tables()
    return [[cell or "" for cell in row.values()] for _, table in tables for row in table.to_pylist()]


def numbers(text: bytes) -> tuple[list[int], list[int]]:
    """Of the lines in which rows begin, in either way."""
    rows = CsvList(io.BytesIO(text), ["uri"], OddLines()).rows()
    tables = CsvList(io.BytesIO(text), ["uri"], OddLines()).tables()
    return [number for number, _ in rows], [number for lines, _ in tables for number in lines]


def written(rows: list[list[str]], quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator=end).writerows([HEADER, *rows])
    return text.getvalue().encode()


WAYS = [
    (csv.QUOTE_MINIMAL, "\n"),
    (csv.QUOTE_MINIMAL, "\r\n"),
    *((csv.QUOTE_ALL, end) for end in ("\n", "\r\n", "\r")),
]
BOTH = pytest.mark.parametrize("read", [by_rows, by_tables])


@BOTH
@settings(deadline=None)
@given(ROWS, st.sampled_from(WAYS), st.data())
def test_what_was_written_is_read(read, rows, way, data):
    quoting, end = way
    odd = OddLines()
    text = written(rows, quoting, end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lists, "LINE", data.draw(st.sampled_from([200, 1000])))
        assert read(text, odd) == rows
        assert numbers(text)[0] == numbers(text)[1]
    assert odd == OddLines()


@BOTH
@settings(deadline=None)
@given(ROWS, st.sampled_from("\t;"), st.sampled_from(WAYS), st.booleans())
def test_what_spreadsheets_write_is_read(read, rows, separator, way, is_said):
    quoting, end = way
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows([HEADER, *rows])
    said = f"sep={separator}{end}" if is_said else ""
    odd = OddLines()
    assert read((said + text.getvalue()).encode("utf-8-sig"), odd) == rows
    assert odd == OddLines(separator="tab" if separator == "\t" else "semicolon")
    assert numbers((said + text.getvalue()).encode())[0][0] == 2 + is_said


@BOTH
def test_what_is_said_before_the_header_counts(read):
    assert read(b'"sep=|"\r\nuri|n,m\r\na.jpg|1,2\r\n', OddLines()) == [["a.jpg", "1,2"]]
    assert read(b"SEP=,\nuri,n;m\na.jpg,1;2\n", OddLines()) == [["a.jpg", "1;2"]]
    assert read(b"uri,n;uri\na.jpg,1;2\n", OddLines()) == [["a.jpg", "1;2"]]  # commas before others
    odd = OddLines()
    assert read(b"sep=;\nuri;n\na.jpg;1;2\nb.jpg;1\n", odd) == [["b.jpg", "1"]]
    assert odd.told("list.csv") == [
        "list.csv: line 3 is left out: more cells than columns; put a cell that holds a semicolon in quotes"
    ]


CLEAN = st.lists(st.tuples(CELL.map("{}.jpg".format), CELL, CELL).map(list), min_size=3, max_size=8)


@BOTH
@settings(deadline=None)
@given(CLEAN, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.data())
def test_one_bad_row_is_named_by_its_line_and_costs_no_other(read, rows, quoting, data):
    """Whatever is wrong with it: a quote that stays open, a letter of another encoding, a cell too many."""
    at = data.draw(st.integers(0, len(rows) - 1))
    lines = written(rows, quoting).splitlines(keepends=True)
    bad = {
        "open_quotes": b'x.jpg,y,"' + data.draw(st.sampled_from([b"", b"5 inch", b'say ""no""'])) + b"\n",
        "not_utf8": "x.jpg,früh,y\n".encode("cp1252"),
        "longer": b"x.jpg,1,2,3\n",
    }
    for kind, line in bad.items():
        odd = OddLines()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_lists, "LINE", 100)
            found = read(b"".join([*lines[: at + 1], line, *lines[at + 2 :]]), odd)
        assert found == rows[:at] + rows[at + 1 :]
        assert getattr(odd, kind) == [at + 2]
        assert len(odd.told("list.csv")) == 1


@BOTH
@pytest.mark.parametrize(
    ("text", "kept", "lines"),
    [
        ('uri\n"a.jpg\nb.jpg\nc.jpg\n', ["b.jpg", "c.jpg"], [2]),  # to the end of the file
        ('uri\na.jpg\nb.jpg\n"c.jpg', ["a.jpg", "b.jpg"], [4]),
        ('uri,n\na.jpg,"x\nb.jpg,y"\nc.jpg,z\n', ["b.jpg", "c.jpg"], [2]),  # to the next row's end
        ('uri,n\na.jpg,"x\nb.jpg,y\nc.jpg,"z"\n', ["b.jpg", "c.jpg"], [2]),  # to the next quote
        ('uri,n\n"a.jpg,x\n"b.jpg","y"\n"c.jpg","z"\n', ["b.jpg", "c.jpg"], [2]),
        ('uri,n\n7,"x\n8,y\n9,"z"\n', ["8", "9"], [2]),  # what are no names of files
        ('n,uri,m\n"1\n2",a.jpg,"3\n4,b.jpg,5\n', ["b.jpg"], [3]),  # behind a cell of two lines
        ('n,uri,m\n"1,a.jpg,2\n3,b.jpg,4\n"5",c.jpg,6\n', ["b.jpg", "c.jpg"], [2]),
        ('uri,n\na.jpg,"x\nb.jpg,"y\nc.jpg,z\n', ["c.jpg"], [2, 3]),  # in two rows
    ],
)
def test_a_quote_that_stays_open_hides_no_row(read, text, kept, lines):
    odd = OddLines()
    place = text.partition("\n")[0].split(",").index("uri")
    assert [row[place] for row in read(text.encode(), odd)] == kept
    assert odd.open_quotes == lines


@BOTH
def test_cells_of_several_lines_and_quotes_inside_cells_stay(read):
    text = 'uri,n\na.jpg,"two\nlines, with a comma"\nb.jpg,5" pipe\n"c,""d"".jpg","5"" pipe"\n\ne.jpg,""\n'
    odd = OddLines()
    assert read(text.encode(), odd) == [
        ["a.jpg", "two\nlines, with a comma"],
        ["b.jpg", '5" pipe'],
        ['c,"d".jpg', '5" pipe'],
        ["e.jpg", ""],
    ]
    assert odd == OddLines()
    assert numbers(text.encode()) == ([2, 4, 5, 7], [2, 4, 5, 7])


@BOTH
def test_short_rows_are_read_and_named(read):
    odd = OddLines()
    rows = read(b"uri,line,note\na.jpg\n,,\nb.jpg,1,2,, \n,\n", odd)
    assert rows == [["a.jpg", "", ""], ["", "", ""], ["b.jpg", "1", "2"], ["", "", ""]]
    assert odd.told("list.csv") == [
        "list.csv: line 2 has fewer cells than columns; the last columns count as empty"
    ]


@BOTH
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'uri,"line\na.jpg,1\n', "line 1: a quote opens in its header that nothing closes"),
        ("uri,größe\na.jpg,1\n".encode("cp1252"), r"not UTF-8 \(character 7 of line 1 is byte 0xf6\)"),
        ("uri,n\na.jpg,größe\n".encode("cp1252"), r"not UTF-8 \(character 9 of line 2 is byte 0xf6\)"),
        ("uri\na.jpg\n".encode("utf-16"), "it begins as UTF-16; save it as UTF-8"),
        (b'uri,n\na.tif,"' + b"line\n" * 40_000 + b'"\n', "line 2: has a cell of more than 131,072 char"),
        (
            b"uri\n" + b",".join([b'"aaa\nbbb"'] * 150_000),
            "row that begins in line 2 has more than 1,048,576",
        ),
        (b"uri" + b",a" * 1000, "has 1,001 columns"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_in_words(read, text, words):
    with pytest.raises(ValueError, match=words):
        read(text, OddLines())


class Endless(io.RawIOBase):
    """A file of 4 GiB of one letter behind its beginning."""

    def __init__(self, beginning: bytes) -> None:
        self.left, self.beginning = 2**32, beginning

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.beginning:
            part, self.beginning = self.beginning[: len(buffer)], self.beginning[len(buffer) :]
        else:
            part = b"a" * min(len(buffer), self.left)
            self.left -= len(part)
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("is_csv", [True, False])
def test_a_line_without_end_is_refused_by_its_number_and_takes_no_memory(is_csv):
    file = io.BufferedReader(Endless(b"uri\n# a\n"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^line 3 has more than 1,048,576 characters"):
            list(CsvList(file, [], OddLines()).rows() if is_csv else path_blocks(file, OddLines()))
        assert tracemalloc.get_traced_memory()[1] < 24 * MIB
    finally:
        tracemalloc.stop()


def test_a_long_list_is_let_go_line_by_line(monkeypatch):
    monkeypatch.setattr(text_lists, "LINE", 1000)
    text = "uri,n\n" + "".join(f'{n}.jpg,"{n}"\n' for n in range(20_000))
    listed = CsvList(io.BytesIO(text.encode()), ["uri"], OddLines())
    tracemalloc.start()
    try:
        assert sum(1 for _ in listed.rows()) == 20_000
        assert tracemalloc.get_traced_memory()[1] < MIB // 4
    finally:
        tracemalloc.stop()


@BOTH
def test_lines_of_separators_alone_and_the_end_of_dos_are_empty(read):
    odd = OddLines()
    assert read(b"uri,line\na,1\n;\n\x1a\n \t\nb,2\n\x1a", odd) == [["a", "1"], ["b", "2"]]
    assert read(b"uri\na\n;;\n\x1a\nb\x1a", odd) == [["a"], ["b"]]
    assert odd.told("/in/list.csv") == []


@BOTH
def test_columns_without_a_name_are_empty(read):
    rows = read(b"uri;line;;\na;1;;\nb;2;; \n", OddLines())
    assert [row[:2] for row in rows] == [["a", "1"], ["b", "2"]]
    (row,) = read(b";uri ; line;\n0;a;1;\n", OddLines())
    assert row[:3] == ["0", "a", "1"], "pandas writes its index so"
    assert CsvList(io.BytesIO(b";uri ; line;\n"), ["uri"], OddLines()).names == ["", "uri", "line"]
    with pytest.raises(ValueError, match=r"line 3 has '5' in column 3, which has no name in the header"):
        read(b"uri;line;;\na;1;;\nb;1;5;\n", OddLines())
