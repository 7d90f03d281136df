from pathlib import Path

import numpy as np
import pytest
from factories import Photo, make_photo_output

from batchseg.cli.main import main


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--since", "all"], 0, "1 image in all"),
        (["--since", "all", "--images", "0"], 2, "--images 0: expected 1 to 500"),
        (["--since", "all", "--by", "nothing"], 2, "nothing"),
    ],
)
def test_summary(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    output = make_photo_output(tmp_path / "out", [Photo(source_id="a.png", mask=np.ones((3, 4), np.uint8))])
    with pytest.raises(SystemExit) as ended:
        main(["summary", output, *words])
    out, err = capfd.readouterr()
    assert ended.value.code == code
    assert text in (err if code else out)
    assert (out == "") is bool(code)
