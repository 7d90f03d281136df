"""A summary in words is as wide as a terminal; tests/tools/test_summary.py has its numbers."""

import json
from pathlib import Path

import numpy as np
from factories import Photo, make_photo_output
from rich.cells import cell_len

from batchseg.cli.summary_text import COLUMNS, as_json, summary_lines
from batchseg.tools.summary import summarize


def test_words_and_json_say_the_same(tmp_path: Path) -> None:
    photos = [Photo(source_id=f"图片{n}" + "x" * 90, mask=np.full((9, 9), n % 2, np.uint8)) for n in range(4)]
    found = summarize(make_photo_output(tmp_path / "out", photos), since="all")
    lines = summary_lines(found)
    assert max(map(cell_len, lines[1:])) <= COLUMNS
    document = json.loads("".join(as_json(found)))
    assert document["total"]["images"] == 4
    assert document["total"]["fail"] == len(document["worst"]) == 2
    assert any("4 images in all" in line for line in lines)
