"""docs/design says what the code is: its picture, its modules and its links."""

import re
from pathlib import Path

import pytest
import structure
from conftest import REPOSITORY

DESIGN = REPOSITORY / "docs" / "design"
PACKAGE = REPOSITORY / "batchseg"
PAGES = sorted(DESIGN.rglob("*.md"))
DECISIONS = sorted((DESIGN / "decisions").glob("*.md"))


def test_the_picture_of_the_rooms_is_drawn_from_the_imports() -> None:
    page = (DESIGN / "flow.md").read_text()
    drawn = page.partition("<!-- rooms: begin -->\n")[2].partition("<!-- rooms: end -->")[0]
    package, contract = structure.read_package(PACKAGE), structure.read_contract()
    assert drawn == f"```mermaid\n{structure.as_mermaid(package, contract)}\n```\n", (
        "put the output of `python docs/design/structure.py --mermaid` between the markers"
    )


def test_every_room_is_in_the_table_of_rooms() -> None:
    named = re.findall(r"^\| `(\w+)` \|", (DESIGN / "flow.md").read_text(), flags=re.MULTILINE)
    assert named == list(reversed(structure.read_contract()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_modules_that_a_page_names_exist(page: Path) -> None:
    rooms = "|".join(structure.read_contract())
    for module, name in re.findall(rf"`((?:{rooms})/[\w/]+)(?:\.([\w.]+))?`", page.read_text()):
        path = PACKAGE / f"{module}.py"
        assert path.exists() or path.with_suffix("").is_dir(), module
        assert not name or re.search(rf"\b{name.split('.')[0]}\b", path.read_text()), f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_index_lists_every_decision() -> None:
    index = (DESIGN / "README.md").read_text()
    listed = re.findall(
        r"^\| (\d{4}) \| ([\d-]+) \| \[(.*)\]\(decisions/(.*)\) \|$", index, flags=re.MULTILINE
    )
    found = []
    for page in DECISIONS:
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").partition(" ")
        found.append((number, page.read_text().splitlines()[2], title, page.name))
    assert listed == found
    assert [number for number, *_ in listed] == [f"{n:04}" for n in range(1, len(found) + 1)]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_why_and_what_was_lost(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)
    assert headings == ["Context", "Decision", "What was lost"]
