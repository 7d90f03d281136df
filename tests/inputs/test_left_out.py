from collections import Counter

from batchseg.inputs.left_out import LeftOut, scene_left_out


def test_one_line_says_what_the_folders_hold_besides():
    assert LeftOut().lines() == ()
    left_out = LeftOut(
        kinds=Counter({".heic": 9, ".txt": 2, "": 1}),
        folders={"/in/.Trash-1000", "/in/a/@eaDir", "/in/b/@eaDir"},
        results={"s3://key:secret@bucket/in/results"},
        rows=["list.csv: row 3 is left out: no path"],
    )
    folders, rows = left_out.lines()
    assert folders == (
        "left out: 12 files of other kinds: .heic 9, .txt 2, without ending 1; "
        "3 hidden or system folders: @eaDir 2, .Trash-1000; results of other jobs: s3://bucket/in/results"
    )
    assert rows == "list.csv: row 3 is left out: no path"


def test_a_line_stays_short_and_can_be_written():
    left_out = LeftOut(kinds=Counter({f".k{n}": 1 for n in range(99)}), folders={"/in/.caf\udce9"})
    (line,) = left_out.lines()
    assert ".k17 1 and 89 more; 1 hidden" in line
    assert ".caf\\xe9" in line
    assert len(scene_left_out("/in/items.json", "x" * 5000)) < 200
