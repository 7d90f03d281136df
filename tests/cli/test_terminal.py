"""The streams, in a process of their own: pytest has its own hands on these."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY
from hypothesis import given
from names import NAMES, acts

from batchseg.cli.terminal import json_lines

TAKING = """
import os, sys
from batchseg.cli.terminal import Streams
from batchseg.api.own_process import send_chatter_to
streams = Streams()
streams.take()
os.write(1, b"chatter before a run\\n")
send_chatter_to(sys.argv[1])
os.write(1, b"chatter on 1\\n")
os.write(2, b"chatter on 2\\n")
print("ours", file=streams.out)
print("told", file=streams.err)
streams.give_back()
print("after")
"""


def test_libraries_write_to_a_file_and_we_to_the_user(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKING, str(tmp_path / "libraries.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == ("ours\nafter\n", "told\n")
    assert (tmp_path / "libraries.txt").read_text() == "chatter on 1\nchatter on 2\n"


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -c \'{TAKING}\' "{tmp_path}/libraries.txt" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False, cwd=REPOSITORY).returncode == 0
    assert (tmp_path / "libraries.txt").exists()


@given(NAMES)
def test_a_document_has_true_names_and_acts_on_no_terminal(name: str) -> None:
    document = {"output": "s3://key:SEC/RET@bucket", "of": [{name: name}, (1, None)]}
    lines = json_lines(document)
    assert not any(map(acts, lines))
    assert json.loads("\n".join(lines)) == {"output": "s3://***@bucket", "of": [{name: name}, [1, None]]}
