"""Lists as text: whole lines piece by piece, and what of them is no row, by its line."""

import io
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import BinaryIO

from batchseg.inputs.left_out import LeftOut, comments_in, rows_left_out, short_rows
from batchseg.inputs.list_dialects import is_nothing, said_separator
from batchseg.inputs.manifest_parts import LINE, check_count

_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")
"""Its byte order marks, as they come through a reader of UTF-8."""


CTRL_Z = "\x1a"
"""By which DOS, and `copy` on Windows, end a text."""


@dataclass(slots=True)
class OddLines:
    """Filled while a list is read: which of its lines are no rows, and why."""

    without: list[int] = field(default_factory=list)
    """Those that have no path."""
    blank: set[int] = field(default_factory=set)
    """Those that hold nothing at all, as spreadsheets leave them at a list's end."""
    shorter: list[int] = field(default_factory=list)
    """Those that end early; they are read, and their last cells are empty."""
    longer: list[int] = field(default_factory=list)
    """Those that have cells too many."""
    open_quotes: list[int] = field(default_factory=list)
    """Those in which a quote opens that nothing closes."""
    not_utf8: list[int] = field(default_factory=list)
    first_byte: str = ""
    """Of the first of these, in words."""
    comments: list[str] = field(default_factory=list)
    """Lines of text that begin with #: files can be called so."""
    separator: str = "comma"
    """What stands between cells, in a word."""

    def is_utf8(self, line: str, number: int) -> bool:
        """Whether a line could be decoded; else it is noted."""
        try:
            line.encode()
        except UnicodeEncodeError as e:
            byte = ord(line[e.start]) - 0xDC00
            self.first_byte = (
                self.first_byte or f"character {e.start + 1} of line {number} is byte 0x{byte:02x}"
            )
            self.not_utf8.append(number)
            return False
        return True

    def check_some_are_utf8(self, kept: int) -> None:
        """Raises ValueError where no row could be read: the list is in another encoding."""
        if self.not_utf8 and not kept:
            msg = f"it is not UTF-8 ({self.first_byte}); save it as UTF-8"
            raise ValueError(msg)

    def tell(self, left_out: LeftOut, uri: str, unit: str = "line") -> None:
        """Say what was odd, and which rows may name a source that is not seen for that."""
        if self.comments:
            left_out.rows.append(comments_in(uri, len(self.comments)))
            left_out.comments += ((uri, line) for line in self.comments)
        left_out.rows += self.told(uri, unit)
        left_out.unread += self._left_out(uri, [n for n in self.without if n not in self.blank], unit)

    def told(self, uri: str, unit: str = "line") -> list[str]:
        """A line for each kind of what was odd."""
        lines = self._left_out(uri, self.without, unit)
        return lines + ([short_rows(uri, self.shorter)] if self.shorter else [])

    def _left_out(self, uri: str, without: list[int], unit: str) -> list[str]:
        reasons = (
            (without, "no path"),
            (self.longer, f"more cells than columns; put a cell that holds a {self.separator} in quotes"),
            (self.open_quotes, "a quote opens there that nothing closes; close it, or leave it out"),
            (self.not_utf8, f"not UTF-8 ({self.first_byte}); save the list as UTF-8"),
        )
        return [rows_left_out(uri, rows, why, unit) for rows, why in reasons if rows]


def text_blocks(file: BinaryIO) -> Generator[tuple[int, str], None, None]:
    """The number of the first line, and the text of whole lines with their ends.

    What is no UTF-8 is there as `surrogateescape` shows it.

    Args:
        file: the text, with a byte order mark or without. It stays open.

    Raises:
        ValueError: by iterating: a line has more than LINE characters, or the text is UTF-16.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    number, rest = 1, ""
    try:
        while piece := text.read(LINE):
            whole = rest + piece
            if number == 1 and whole.startswith(_UTF16):
                msg = "it is not UTF-8, it begins as UTF-16; save it as UTF-8"
                raise ValueError(msg)
            cut = _end_of_lines(whole)
            # Only the first line can be longer than what was read at once.
            if _longer_than_a_line(whole, cut):
                msg = f"line {number} has more than {LINE:,} characters; is it a list of files?"
                raise ValueError(msg)
            rest = whole[cut:]
            if cut:
                yield number, whole[:cut]
                number += line_count(whole[:cut])
        if rest := rest.rstrip(CTRL_Z):
            yield number, rest
    finally:
        if not text.closed:
            text.detach()


def _end_of_lines(text: str) -> int:
    """Where its last whole line ends; a return at the very end may be half of a line's end."""
    return (text.rfind("\n") + 1) or (text.rfind("\r", 0, -1) + 1)


def _longer_than_a_line(text: str, cut: int) -> bool:
    if not cut:
        return len(text) > LINE
    return len(text) > LINE and all(end not in text[: LINE + 1] for end in "\r\n")


def line_count(text: str) -> int:
    """Ends of lines in it."""
    returns = text.count("\r")
    return text.count("\n") + (returns - text.count("\r\n") if returns else 0)


def has_lone_return(text: str) -> bool:
    """Whether lines end as they did on old Macs."""
    return "\r" in text and text.count("\r") != text.count("\r\n")


def path_blocks(file: BinaryIO, odd: OddLines) -> Generator[list[str], None, None]:
    """Lines of a text without those that are empty or begin with #, in pieces.

    Raises ValueError as `text_blocks`, and where there are more comments than a list may have rows.
    """
    kept, blocks = 0, text_blocks(file)
    try:
        for first, block in blocks:
            text = block.replace("\r\n", "\n").replace("\r", "\n") if "\r" in block else block
            lines = text.split("\n")
            if "#" in text:
                odd.comments += (line for each in lines if (line := each.strip()).startswith("#"))
                check_count(len(odd.comments))
            if not _is_utf8(text):
                lines = [line for n, line in enumerate(lines, start=first) if _is_path(line, n, odd)]
            paths = [
                path
                for line in lines
                if (path := line.strip())
                and path[0] != "#"
                and not (path[0] in ",;|\x1a" and is_nothing(path))
            ]
            if paths and not kept:
                _refuse_header(paths[0])
            kept += len(paths)
            yield paths
    finally:
        blocks.close()
    odd.check_some_are_utf8(kept)


def _is_path(line: str, number: int, odd: OddLines) -> bool:
    """Whether a line is no comment and could be decoded; else that is noted."""
    return not line.lstrip().startswith("#") and odd.is_utf8(line, number)


def _refuse_header(line: str) -> None:
    """Raises ValueError where a list's first path is the header of a table, or what stands before one."""
    cells = [cell.strip(' "') for cell in re.split(r"[,;\t]", line)]
    if said_separator(line) or (len(cells) > 1 and "uri" in cells):
        msg = f"its first line {line[:100]!r} is that of a table; let its name end in .csv"
        raise ValueError(msg)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
