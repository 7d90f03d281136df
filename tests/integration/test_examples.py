"""The script and the notebook of the Python face, as a reader runs them."""

import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import REPOSITORY


def test_the_script(tmp_path: Path) -> None:
    command = [sys.executable, REPOSITORY / "examples" / "first_steps.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["1 scene done", str(tmp_path / "results" / "masks" / "coast.tif")]
    areas = {words[0]: float(words[1]) for line in lines[3:-1] if len(words := line.split()) == 2}
    assert sum(areas.values()) == 600 * 700
    assert areas["water"] == pytest.approx(200 * 400, rel=0.1)
    assert areas["land"] == pytest.approx(600 * 700 - 200 * 400, rel=0.1)
    assert "1 scene, 4 tiles, 0.42 Mpx to do" in done.stderr


def test_the_notebook() -> None:
    notebook = nbformat.read(REPOSITORY / "docs" / "notebooks" / "first_steps.ipynb", as_version=4)
    where = {"metadata": {"path": str(REPOSITORY / "docs" / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    plan, run, items, areas, counts = shown[2:]
    assert "1 to do" in plan[0].text
    bar, said = run
    assert bar.data["text/plain"].startswith("done: 4/4 tiles, 1/1 scenes")
    assert '<progress value="4" max="4"' in bar.data["text/html"]
    assert said.text == "1 scene done, 4 tiles\n"
    assert "masks/coast.tif" in items[0].data["text/html"]
    assert "water" in areas[0].data["text/plain"]
    assert counts[0].text.startswith("water: ")
    assert not any(output.get("name") == "stderr" for outputs in shown for output in outputs)
