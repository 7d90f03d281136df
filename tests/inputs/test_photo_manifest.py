import datetime as dt
import json
import os

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.inputs import manifest_parts, photo_manifest
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.manifest import absolute, member_uri
from batchseg.inputs.photo_manifest import attributes_of, read_manifest


def rows(path) -> list[tuple[str, str]]:
    tables = list(read_manifest(str(path)))
    return [(row["uri"], row["attributes"]) for table in tables for row in table.to_pylist()]


CELLS = st.none() | st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6
)
COLUMNS = st.dictionaries(st.text(alphabet='ab"é\\ ', min_size=1, max_size=3), CELLS, max_size=3)


@settings(deadline=None)
@given(st.lists(COLUMNS, min_size=1, max_size=5))
def test_attributes_are_what_json_writes(given_rows):
    names = {name for row in given_rows for name in row}
    columns = {name: pa.chunked_array([[row.get(name) for row in given_rows]], pa.string()) for name in names}
    expected = [{name: text for name, text in row.items() if text} for row in given_rows]
    found = attributes_of(columns, len(given_rows)).to_pylist()
    assert [json.loads(text) if text else {} for text in found] == expected
    assert found == [json.dumps(r, sort_keys=True, ensure_ascii=False) if r else "" for r in expected]


def test_numbers_and_dates_are_text_and_empty_cells_are_left_out(tmp_path):
    table = pa.table(
        {
            "uri": ["a.jpg", "/b.jpg"],
            "n": [7, None],
            "share": [0.5, 2.25],
            "day": [dt.date(2026, 11, 20), None],
            "line": pa.array(["north", ""]).dictionary_encode(),
            "__index_level_0__": [3, 4],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    assert rows(tmp_path / "m.parquet") == [
        (f"{tmp_path}/a.jpg", '{"day": "2026-11-20", "line": "north", "n": "7", "share": "0.5"}'),
        ("/b.jpg", '{"share": "2.25"}'),
    ]


def test_cells_of_a_csv_file_stay_as_they_are_written(tmp_path):
    text = '\ufeffline,uri,"serial, no"\n007, a.jpg ,1e3\n"two\nlines","b,""c"".jpg",\n\n'
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    assert rows(tmp_path / "m.csv") == [
        (f"{tmp_path}/a.jpg", '{"line": "007", "serial, no": "1e3"}'),
        (f'{tmp_path}/b,"c".jpg', '{"line": "two\\nlines"}'),
    ]


def test_csv_and_parquet_say_the_same(tmp_path):
    table = pa.table({"uri": [f"{n}.jpg" for n in range(40_000)], "line": ["prüf", "x"] * 20_000})
    pq.write_table(table, tmp_path / "m.parquet")
    pacsv.write_csv(table, tmp_path / "m.csv")
    assert rows(tmp_path / "m.csv") == rows(tmp_path / "m.parquet")
    assert len(rows(tmp_path / "m.csv")) == 40_000


def test_lines_of_text_are_paths(tmp_path):
    names = ["a b.jpg", '"quoted".jpg', "x,y.jpg", "tab\t.jpg", "照 50%#.jpg"]
    (tmp_path / "m.lst").write_text(
        "\ufeff# first\n\n" + "\r\n".join(f"  {n} " for n in names), encoding="utf-8"
    )
    assert rows(tmp_path / "m.lst") == [(f"{tmp_path}/{name}", "") for name in names]
    (tmp_path / "m.lst").write_text("")
    assert rows(tmp_path / "m.lst") == []


PARTS = st.lists(st.sampled_from(["a", "b.jpg", "..", ".", "", "ü"]), min_size=1, max_size=5).map("/".join)
PATHS = st.builds("{}{}".format, st.sampled_from(["", "/", "s3://b/", "file:///", "file://"]), PARTS)


@settings(deadline=None)
@given(st.lists(PATHS.filter(bool), min_size=1, max_size=5))
def test_paths_become_absolute_as_members_of_other_manifests_do(names):
    for where in ("/data/night/m.csv", "s3://bucket/night/m.csv"):
        column = pa.chunked_array([names], pa.string())
        assert absolute(column, where).to_pylist() == [member_uri(name, where) for name in names]


def test_names_that_every_row_says_again_are_counted(tmp_path, monkeypatch):
    """Rows of a few bytes under columns of long names: 200 bytes of CSV become 20,000 of attributes."""
    names = [f"{n}-" + "x" * 200 for n in range(100)]
    lines = [",".join(["uri", *names]), *(f"{n}.jpg" + ",1" * 100 for n in range(300))]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    whole = rows(tmp_path / "m.csv")
    assert len(whole) == 300
    monkeypatch.setattr(photo_manifest, "NAMES_BYTES", 100_000)
    assert max(map(len, read_manifest(str(tmp_path / "m.csv")))) == 4
    assert rows(tmp_path / "m.csv") == whole
    monkeypatch.setattr(manifest_parts, "WHOLE_BYTES", 2_000_000)
    with pytest.raises(ValueError, match="hold more than 2,000,000 bytes"):
        rows(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("m.csv", "path,line\na.jpg,1\n", "no column 'uri'"),
        ("m.csv", "", "no column 'uri'"),
        ("m.csv", "uri,line,line\na.jpg,1,2\n", "several columns 'line'"),
        ("m.csv", b"uri" * 2**19, "line 1 has more than 1,048,576 characters"),
        ("m.csv", b"uri,line\na.jpg,1\nb.jpg," + b"a" * 2**22, "line 3 has more than 1,048,576 characters"),
        ("m.csv", b'uri,line\na.jpg,"' + b"12345\n" * 2**20, "line 2: has a cell of more than 131,072"),
        (
            "m.csv",
            b"uri,line\na.jpg,1\nb.jpg," + b"a" * 2**17,
            "line 3, column 'line': a cell of 131,072 bytes",
        ),
        ("m.csv", b"uri" + b",a" * 1000, "has 1,001 columns"),
        ("m.txt", b"a.jpg\n\nb.jpg\n" + b"a" * 2**22, "line 4 has more than 1,048,576 characters"),
        ("m.parquet", {"uri": ["a.jpg"], "line": ["a" * 2**17]}, "row 1, column 'line': a cell of 131,072"),
        ("m.csv", b"uri\n\xff\xfe\n", "save it as UTF-8"),
        ("m.csv", "uri,line\na.jpg,Prüfung\n".encode("cp1252"), "save it as UTF-8"),
        ("m.csv", "uri\na.jpg\n".encode("utf-16"), "save it as UTF-8"),
        ("m.txt", b"\xff\xfe\x00\x01", "save it as UTF-8"),
        ("m.csv", "path;line\na.jpg;1\n", "no column 'uri'; its columns are 'path', 'line'"),
        ("m.txt", "uri\tline\na.jpg\t1\n", r"'uri\\tline' is that of a table; let its name end in .csv"),
        ("m.txt", "\nsep=;\nuri;line\na.jpg;1\n", "'sep=;' is that of a table"),
        ("m.csv", "URI,line\na.jpg,1\n", "perhaps you meant 'URI' to be 'uri'"),
        ("m.parquet", {"Uri ": ["a.jpg"]}, "perhaps you meant 'Uri ' to be 'uri'"),
        ("m.parquet", b"PAR1 not", "Parquet"),
        ("m.parquet", {"path": ["a.jpg"]}, "no column 'uri'"),
        ("m.parquet", {"uri": [1]}, "int64"),
        ("m.parquet", {"uri": ["a.jpg"], "box": [[1, 2]]}, "'box'"),
        ("m.parquet", {"uri": ["a.jpg"], "raw": [b"1"]}, "'raw'"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, name, content, word):
    path = tmp_path / name
    if isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
    with pytest.raises(ValueError, match=word):
        rows(path)


def test_an_attribute_loses_what_signs_an_address_and_no_more():
    cells = [
        "s3://key:SEC/RET@b/a.png",
        "https://h/a.png?X-Amz-Signature=abc&id=4",
        "https://h:80/a@b",
        "a@b",
        None,
    ]
    found = attributes_of({"from": pa.chunked_array([pa.array(cells)])}, 5).to_pylist()
    kept = ["s3://b/a.png", "https://h/a.png?id=4", "https://h:80/a@b", "a@b"]
    assert [text and json.loads(text)["from"] for text in found] == [*kept, ""]


def test_rows_as_excel_writes_them_spare_all_others(tmp_path):
    """Blank rows at the end; cells left out at a row's end; one row with a comma too many."""
    lines = [
        "uri,line,serial",
        "a.jpg,1,7",
        ",,",
        "b.jpg",
        "c.jpg,2,8,9,x",
        "  ,,",
        "d.jpg,3,9,,",
        "e.jpg,4,",
        ",5,6",
    ]
    (tmp_path / "m.CSV").write_text("\r\n".join(lines) + "\r\n\r\n,,\r\n", encoding="utf-8-sig")
    left_out = LeftOut()
    tables = list(read_manifest(str(tmp_path / "m.CSV"), left_out))
    found = {row["uri"].rpartition("/")[2]: row["attributes"] for t in tables for row in t.to_pylist()}
    assert {name: json.loads(text or "{}") for name, text in found.items()} == {
        "a.jpg": {"line": "1", "serial": "7"},
        "b.jpg": {},
        "d.jpg": {"line": "3", "serial": "9"},
        "e.jpg": {"line": "4"},
    }
    assert left_out.lines() == (
        "m.CSV: lines 3, 6, 9, 11 are left out: no path",
        "m.CSV: line 5 is left out: more cells than columns; put a cell that holds a comma in quotes",
        "m.CSV: line 4 has fewer cells than columns; the last columns count as empty",
    )


def test_a_table_s_rows_without_path_are_left_out(tmp_path):
    pq.write_table(
        pa.table({"uri": ["a.jpg", None, "", "b.jpg"], "line": ["1", "2", "3", "4"]}), tmp_path / "m.parquet"
    )
    left_out = LeftOut()
    found = [
        row["uri"] for t in read_manifest(str(tmp_path / "m.parquet"), left_out) for row in t.to_pylist()
    ]
    assert found == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
    assert left_out.lines() == ("m.parquet: rows 2, 3 are left out: no path",)


def test_a_table_of_short_rows_alone_is_read_to_its_end(tmp_path):
    (tmp_path / "m.csv").write_text("uri,line\na.jpg\nb.jpg\n")
    assert rows(tmp_path / "m.csv") == [(f"{tmp_path}/a.jpg", ""), (f"{tmp_path}/b.jpg", "")]
