"""Lists as spreadsheets write them, read by the real command."""

from pathlib import Path

import pytest
from conftest import Command, JobWriter, reflectance, write_raster
from photo_runs import JobMaker, items, photograph, save

from batchseg.inputs.list_dialects import said_separator, separator_of

LISTS = {
    "list.csv": "sep=,\r\nuri,line\r\n1.png,east\r\n2.png,west\r\n",
    "semicolons.csv": "\ufeffsep=;\r\nuri;line\r\n1.png;east\r\n2.png;west\r\n",
    "unsaid.csv": "line;uri\neast;1.png\nwest;2.png\n",
    "tabs.csv": "line\turi\neast\t1.png\nwest\t2.png\n",
    "LIST.TSV": "uri\tline\n1.png\teast\n2.png\twest\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_spreadsheets_list_of_photographs_is_done(
    tmp_path: Path, photo_job: JobMaker, command: Command, name: str
) -> None:
    for seed in (1, 2):
        save(tmp_path / f"{seed}.png", photograph(seed))
    (tmp_path / name).write_bytes(LISTS[name].encode())
    told = command("run", photo_job(inputs=name), "--set", "executor=inline", "--set", "workers=1")
    assert told.returncode == 0, told.stderr
    assert {key: row["line"] for key, row in items(tmp_path / "out").items()} == {
        "1.png": "east",
        "2.png": "west",
    }


def test_a_spreadsheets_list_of_scenes_is_done(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    write_raster(tmp_path / "a.tif", reflectance(70, 110))
    (tmp_path / "list.tsv").write_text("name\tred\nnorth\ta.tif\n")
    listed = {"manifest": "list.tsv", "columns": ["red"], "id": "name"}
    told = command("run", write_job(inputs=listed), "--set", "executor=inline", "--set", "workers=1")
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "out" / "masks" / "north.tif").exists()


def test_a_table_whose_name_is_of_a_text_is_refused_with_the_name_it_needs(
    tmp_path: Path, photo_job: JobMaker, command: Command
) -> None:
    save(tmp_path / "1.png", photograph(1))
    (tmp_path / "list.txt").write_text("uri\tline\n1.png\teast\n")
    told = command("run", photo_job(inputs="list.txt"))
    assert told.returncode == 2
    assert "is that of a table; let its name end in .csv" in told.stderr


def test_a_comma_goes_before_others() -> None:
    assert separator_of("uri,a;b\tc\n", ["uri"]) == ","
    assert separator_of("a;b\n", []) == ","
    assert said_separator("uri,sep=;\n") == said_separator("sep=ab\n") == ""
