"""Lists in CSV, row by row or in columns. A row that cannot be read costs no other row."""

import csv
import io
import re
from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv as pacsv

from batchseg.inputs.list_dialects import SEPARATORS, is_nothing, said_separator, separator_of
from batchseg.inputs.manifest_parts import LINE, check_columns
from batchseg.inputs.text_lists import CTRL_Z, OddLines, has_lone_return, line_count, text_blocks

_PATH = re.compile(r"\.[A-Za-z]\w{0,7}$|^\S*/\S*$|://")
"""What a path has that words of a note rarely have."""

_NOTHING = re.compile(r"^[ \t,;|]+\r?$", re.MULTILINE)

_TELLING = 3
"""Cells by whose number alone a line is known as a row, in a list whose paths do not look as paths do."""


_FOREIGN = " \t,;|\x1a"
"""How lines begin that may hold nothing."""


class _OpenQuoteError(Exception):
    """A quoted cell goes on where the next row begins, or where the list ends."""


class CsvList:
    """A CSV file of UTF-8 whose first row names its columns.

    Cells are separated by commas, or by tabs or semicolons where the header shows it, or a line before it
    that spreadsheets are told by: `sep=;`.

    Args:
        file: can be read once; it stays open.
        paths: columns that hold paths, by which a row is known.
        odd: told which lines are no rows.

    Raises:
        ValueError: its header cannot be read. So do `rows` and `tables` where a line, a row or a cell is too
            long, or all rows are in another encoding.
    """

    def __init__(self, file: BinaryIO, paths: Sequence[str], odd: OddLines) -> None:
        self._odd = odd
        self._blocks = text_blocks(file)
        self._lines: list[str] = []
        self._at, self._first = 0, 1
        self.header: list[str] = []
        self._nameless: list[int] = []
        self._places: list[int] = []
        self._separator = self._find_separator(paths)
        odd.separator = SEPARATORS[self._separator]
        header = self._row() or []
        if odd.not_utf8 or odd.open_quotes:
            odd.check_some_are_utf8(0)
            msg = f"line {odd.open_quotes[0]}: a quote opens in its header that nothing closes"
            raise ValueError(msg)
        check_columns(header)
        self.header = header = [name.strip() for name in header]
        # The first one is the index that pandas writes; the others are empty ones that spreadsheets add.
        self._nameless = [place for place, name in enumerate(header) if place and not name]
        self._places = [header.index(name) for name in paths if name in header]

    def _find_separator(self, paths: Sequence[str]) -> str:
        """Read no further than to the header."""
        if said := said_separator(self._next_line()):
            return said
        self._at = 0
        return separator_of(self._lines[0], paths) if self._lines else ","

    def close(self) -> None:
        """Leave the file open and alone."""
        self._blocks.close()

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line in which each row begins, and its cells: as many as the header has."""
        kept = 0
        while self._at < len(self._lines) or self._go_on():
            number = self._first + self._at
            cells = self._row()
            if cells is not None and self._fits(cells, number):
                kept += 1
                if not any(map(str.strip, cells)):
                    self._odd.blank.add(number)
                yield number, cells
        self._odd.check_some_are_utf8(kept)

    def tables(self) -> Generator[tuple[Sequence[int], pa.Table], None, None]:
        """The same in columns of strings: lines in which rows begin, and the rows. Empty cells are null."""
        kept = 0
        blocks: Iterator[tuple[int, str]] = self._blocks
        begun = (self._first + self._at, "".join(self._lines[self._at :]))
        self._lines, self._at = [], 0
        while begun[1] or (begun := next(blocks, (0, "")))[1]:
            first, text = begun
            table = self._plain(text)
            numbers: Sequence[int] = range(first, first + (len(table) if table else 0))
            if table is None:
                numbers, table = self._columns(first, text)
            begun = (0, "")
            if len(table):
                kept += len(table)
                yield numbers, table
        self._odd.check_some_are_utf8(kept)

    @property
    def names(self) -> list[str]:
        """Of the columns that have one."""
        return [name for place, name in enumerate(self.header) if place not in self._nameless]

    def _plain(self, text: str) -> pa.Table | None:
        """Rows of a text in which each line is one; None: not each is."""
        if "\n\n" in text or "\n\r" in text or text[0] in "\r\n" or has_lone_return(text):
            return None
        # In one column a line of another list's separators passes for a path.
        if CTRL_Z in text or self._nameless or (len(self.header) == 1 and _NOTHING.search(text)):
            return None
        odd: list[pacsv.InvalidRow] = []

        def skip(row: pacsv.InvalidRow) -> Literal["skip"]:
            odd.append(row)
            return "skip"

        try:
            data = text.encode()
        except UnicodeEncodeError:
            return None
        table = pacsv.read_csv(
            io.BytesIO(data),
            read_options=pacsv.ReadOptions(
                column_names=self.header, block_size=len(data) + 1, use_threads=False
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self._separator, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        lines = line_count(text) + (text[-1] not in "\r\n")
        if odd or len(table) != lines:
            return None
        last = table.slice(lines - 1).to_pylist()[0].values()
        # A quote that is open at the text's end has swallowed its last line's.
        return None if text.count('"') % 2 or any("\n" in (cell or "") for cell in last) else table

    def _columns(self, first: int, text: str) -> tuple[list[int], pa.Table]:
        """Rows of a text one by one; the last one may go on in the next."""
        self._lines, self._at, self._first = list(io.StringIO(text, newline="")), 0, first
        numbers, rows = [], []
        while self._at < len(self._lines):
            number = self._first + self._at
            cells = self._row()
            if cells is not None and self._fits(cells, number):
                numbers.append(number)
                rows.append(cells)
        columns = zip(*rows, strict=True) if rows else ([] for _ in self.header)
        arrays = [pa.array([cell or None for cell in column], pa.string()) for column in columns]
        kept = [place for place in range(len(arrays)) if place not in self._nameless]
        return numbers, pa.table([arrays[place] for place in kept], names=self.names)

    def _fits(self, cells: list[str], number: int) -> bool:
        """Whether a row is one of the header's; its cells become as many."""
        missing = len(self.header) - len(cells)
        if missing > 0:
            if any(cell.strip() for cell in cells):
                self._odd.shorter.append(number)
            cells += [""] * missing
        elif missing < 0:
            if any(cell.strip() for cell in cells[missing:]):
                self._odd.longer.append(number)
                return False
            del cells[missing:]
        for place in self._nameless:
            if cells[place].strip():
                msg = (
                    f"line {number} has {cells[place][:60]!r} in column {place + 1}, which has no name in "
                    f"the header; name it, or put a cell that holds a {self._odd.separator} in quotes"
                )
                raise ValueError(msg)
        return True

    def _row(self) -> list[str] | None:
        """The next row's cells; None where there is none, or an odd one."""
        line = self._next_line()
        number = self._first + self._at - 1
        if '"' not in line:
            text = line.rstrip("\r\n")
            is_empty = not text or (text[0] in _FOREIGN and self._is_empty(text))
            is_row = not is_empty and (text.isascii() or self._odd.is_utf8(line, number))
            return text.split(self._separator) if is_row else None
        cells, lines = self._quoted(line, number)
        whole = all(line.isascii() or self._odd.is_utf8(line, number + n) for n, line in enumerate(lines))
        return cells if whole else None

    def _is_empty(self, text: str) -> bool:
        """Whether a line has nothing but what is no separator here; of its own ones alone it is a row."""
        return is_nothing(text) and bool(text.strip(f" {self._separator}"))

    def _quoted(self, line: str, number: int) -> tuple[list[str] | None, list[str]]:
        """A row with quotes, and its lines; none behind the one where a quote is left open."""
        lines = [line]
        text = line if line.endswith(("\n", "\r")) else f"{line}\n"
        try:
            cells = next(csv.reader((text,), delimiter=self._separator))
            if cells[-1].endswith(("\n", "\r")):  # a quote is open at the line's end
                cells = next(csv.reader(self._going_on(text, lines), delimiter=self._separator))
                next(csv.reader(lines, delimiter=self._separator, strict=True))
        except (_OpenQuoteError, csv.Error) as e:
            opened = _opening(lines, self._separator)
            if "field larger" in str(e):
                msg = (
                    f"line {number + opened}: has a cell of more than {csv.field_size_limit():,} characters; "
                    f"is a quote left open?"
                )
                raise ValueError(msg) from e
            self._odd.open_quotes.append(number + opened)
            self._at -= len(lines) - 1 - opened
            return None, lines[: opened + 1]
        return cells, lines

    def _going_on(self, line: str, lines: list[str]) -> Iterator[str]:
        """A line, and those behind it as long as a quote is open, which are added to `lines`."""
        held = len(line)
        yield line
        while line := self._next_line():
            lines.append(line)
            held += len(line)
            if held > LINE:
                number = self._first + self._at - len(lines)
                msg = (
                    f"the row that begins in line {number} has more than {LINE:,} characters; is a quote "
                    f"left open?"
                )
                raise ValueError(msg)
            if self._is_row(line, lines[0]):
                raise _OpenQuoteError
            yield line
        raise _OpenQuoteError

    def _is_row(self, line: str, begin: str) -> bool:
        """Whether a line looks as rows do, rather than as the end of a cell of the row that begins so."""
        cells = next(csv.reader([line], delimiter=self._separator), [])
        if not self.header or len(cells) != len(self.header):
            return False
        before = begin.replace('"', "").split(self._separator)
        if '"' in line and len(before) < len(self.header):  # it may close the cell and have the others
            return False
        if any(_PATH.search(cells[place].strip()) for place in self._places):
            return True
        return len(cells) >= _TELLING and not any(_PATH.search(cell.strip()) for cell in before)

    def _next_line(self) -> str:
        """Empty behind the last one."""
        if self._at == len(self._lines) and not self._load_more():
            return ""
        self._at += 1
        return self._lines[self._at - 1]

    def _go_on(self) -> bool:
        """Whether there are further lines; the earlier ones are let go."""
        self._first += len(self._lines)
        self._lines, self._at = [], 0
        return self._load_more()

    def _load_more(self) -> bool:
        """Whether there are further lines. Those of a row that goes on are kept, to go back to."""
        _, text = next(self._blocks, (0, ""))
        self._lines += io.StringIO(text, newline="")
        return bool(text)


def _opening(lines: Sequence[str], separator: str) -> int:
    """In which of a row's lines the last quote opens."""
    opened, is_quoted, begins = 0, False, True
    for number, line in enumerate(lines):
        for letter in line:
            if letter == '"':
                if begins:
                    opened = number
                is_quoted, begins = not is_quoted, False
            elif not is_quoted:
                begins = letter in (separator, "\r", "\n")
    return opened
