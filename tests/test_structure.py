"""The script that measures the package's structure, on packages of a few lines."""

import subprocess
import sys
from pathlib import Path

import pytest
import structure
from conftest import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "design" / "structure.py"


def write_package(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "pkg"


def read(folder: Path, files: dict[str, str]) -> structure.Package:
    return structure.read_package(write_package(folder, files))


def contract_of(folder: Path, rooms: str) -> dict[str, list[str]]:
    path = folder / "pyproject.toml"
    path.write_text(f"[tool.batchseg.rooms]\n{rooms}")
    return structure.read_contract(path)


THREE = {
    "errors.py": "",
    "low/__init__.py": "",
    "low/a.py": "from pkg import errors\n",
    "middle/b.py": "from pkg.low import a\n",
    "high/c.py": "from pkg.middle.b import x\ndef f():\n    import pkg.low.a\n",
    "__main__.py": "import pkg.high.c\n",
}
CONTRACT = {"low": [], "middle": ["low"], "high": ["middle", "low"]}


def test_rooms_and_arrows(tmp_path: Path) -> None:
    package = read(tmp_path, THREE)
    assert package.rooms == ["high", "low", "middle"]
    assert package.room_arrows == {"low": set(), "middle": {"low"}, "high": {"low", "middle"}}
    assert structure.arrows_up(package, CONTRACT) == []
    assert structure.forbidden_arrows(package, CONTRACT) == []


def test_in_a_flat_package_every_module_is_a_room(tmp_path: Path) -> None:
    package = read(tmp_path, {"a.py": "", "b.py": "import pkg.a\n", "inner/c.py": "from pkg import a, b\n"})
    assert package.room_arrows == {"a": set(), "b": {"a"}, "inner": {"a", "b"}}
    assert structure.arrows_up(package, CONTRACT) is None


@pytest.mark.parametrize(
    "imports",
    [
        "from pkg.high import c",
        "import pkg.high.c",
        "from pkg.high.c import f",
        "def f():\n    from pkg.high import c",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.high.c import f",
    ],
)
def test_an_arrow_up_is_seen_however_it_is_written(tmp_path: Path, imports: str) -> None:
    package = read(tmp_path, {**THREE, "low/a.py": f"{imports}\n"})
    assert structure.arrows_up(package, CONTRACT) == ["low -> high"]
    (forbidden,) = structure.forbidden_arrows(package, CONTRACT)
    assert forbidden.startswith("low.a -> high")
    assert structure.circles(package.room_arrows) == [["high", "low", "middle"]]


def test_a_way_down_that_is_not_allowed_is_seen(tmp_path: Path) -> None:
    package = read(tmp_path, THREE)
    narrow = {**CONTRACT, "high": ["middle"]}
    assert structure.forbidden_arrows(package, narrow) == ["high.c -> low.a"]


def test_a_relative_import_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.py:1: relative import"):
        read(tmp_path, {"a.py": "from . import b\n", "b.py": ""})


@pytest.mark.parametrize("room", ['low = ["high"]\nhigh = []', 'low = ["low"]', 'low = ["nowhere"]'])
def test_a_contract_that_leads_up_is_refused(tmp_path: Path, room: str) -> None:
    with pytest.raises(ValueError, match="low may import"):
        contract_of(tmp_path, room)


def test_circles_of_files_at_their_head_and_in_functions(tmp_path: Path) -> None:
    package = read(
        tmp_path,
        {
            "a.py": "import pkg.b\n",
            "b.py": "class B:\n    def f(self):\n        import pkg.a\n",
            "c.py": "if True:\n    import pkg.d\n",
            "d.py": "import pkg.c\n",
        },
    )
    assert structure.circles(package.file_arrows(at_once=True)) == [["c", "d"]]
    assert structure.circles(package.file_arrows(at_once=False)) == [["a", "b"], ["c", "d"]]


def test_arrows_that_a_longer_way_stands_for_are_not_drawn(tmp_path: Path) -> None:
    assert structure.without_shortcuts({"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}) == {
        "a": {"b", "d"},
        "b": {"c"},
        "c": set(),
        "d": set(),
    }
    drawing = structure.as_mermaid(read(tmp_path, THREE), CONTRACT)
    assert drawing.splitlines() == [
        "flowchart TB",
        "    high",
        "    middle",
        "    low",
        "    high --> middle",
        "    middle --> low",
    ]


def test_what_is_too_long_is_named(tmp_path: Path) -> None:
    methods = "".join(f"    @property\n    def m{number}(self): ...\n" for number in range(16))
    body = "    pass\n" * 60
    package = read(
        tmp_path,
        {
            "a.py": f"class Big:\n{methods}\n\ndef long():\n{body}\n\ndef screen():\n{body[9:]}",
            "b.py": "\n" * 401,
        },
    )
    table = {what: (value, names) for what, value, names in structure.measure(package, tmp_path, CONTRACT)}
    assert table["classes over 15 methods"] == ("1", ["a.Big (16)"])
    assert table["functions over 60 lines"] == ("1", ["a.long (61)"])
    assert table["modules over 400 lines"] == ("1", ["b (401)"])


def test_comments_are_counted_by_line_and_not_in_strings(tmp_path: Path) -> None:
    package = read(tmp_path, {"a.py": "# why\nx = 1  # and why\ny = '# no'\nz = 3\n"})
    assert package.modules["a"].comment_lines == 2


def test_a_module_needs_a_test_of_its_name(tmp_path: Path) -> None:
    package = read(
        tmp_path,
        {
            "low/__init__.py": '"""Says what it is for."""\n',
            "low/a.py": "",
            "low/b.py": "",
            "high/__init__.py": "def f(): ...\n",
            "__main__.py": "",
        },
    )
    tests = tmp_path / "tests"
    (tests / "low").mkdir(parents=True)
    (tests / "low" / "test_a.py").touch()
    assert structure.untested(package, tests) == ["high", "low.b"]


def test_of_modules_with_one_name_each_needs_a_test_in_its_own_folder(tmp_path: Path) -> None:
    package = read(tmp_path, {"low/a.py": "", "high/a.py": "", "high/b.py": ""})
    tests = tmp_path / "tests"
    (tests / "low").mkdir(parents=True)
    (tests / "low" / "test_a.py").touch()
    (tests / "low" / "test_b.py").touch()
    assert structure.untested(package, tests) == ["high.a"]


@pytest.mark.parametrize(
    ("option", "first"), [("--markdown", "| measure |"), ("--mermaid", "flowchart TB"), (None, "rooms")]
)
def test_the_script_prints_the_package_of_this_repository(option: str | None, first: str) -> None:
    command = [sys.executable, str(SCRIPT), *([option] if option else [])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith(first)
