"""What a photograph takes in memory is told from its header, and is what it really takes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from photographs import encoded
from PIL import Image

from batchseg.errors import SourceError
from batchseg.pixels.photo.limits import MAX_PIXELS, Limits, NoRoomError

SIDE = 1600


def checked(limits: Limits, height: int = 100, width: int = 200, **changes: int) -> None:
    limits.check(height, width, **{"decoding": 10, "picture": 3, "file_bytes": 1000, **changes})


def test_the_larger_of_decoding_and_of_what_follows_counts():
    asked = []
    limits = Limits(answer_bytes=9, has_room=lambda *given: asked.append(given) or True)
    checked(limits)
    checked(limits, more=5000)
    checked(limits, decoding=20)
    assert asked == [(201_000, 240_000), (206_000, 240_000), (401_000, 401_000)]


def test_what_needs_more_than_it_may_is_refused_and_what_has_no_room_waits():
    checked(Limits(memory=201_000))
    with pytest.raises(SourceError, match=r"claims 200 x 100 pixels, which need 1 MiB of memory; at most"):
        checked(Limits(memory=200_999))
    with pytest.raises(NoRoomError):
        checked(Limits(has_room=lambda decoding, needed: False))
    with pytest.raises(SourceError, match="claims 0 x 100 pixels"):
        checked(Limits(), width=0)
    with pytest.raises(SourceError, match="claims 200 x 100 pixels, at most 19,999 are taken"):
        checked(Limits(pixels=19_999))


def test_a_very_large_photograph_of_a_camera_is_taken_and_a_bomb_is_not():
    turned_rgb = {"decoding": 9, "picture": 3, "file_bytes": 2**27}
    Limits(answer_bytes=15).check(8660, 11550, **turned_rgb)
    with pytest.raises(SourceError, match="which need 3,708 MiB of memory; at most 2,048 MiB are allowed"):
        Limits().check(17290, 17290, decoding=13, picture=7, file_bytes=10**6)
    assert MAX_PIXELS > 17290**2


MEASURE = """
import sys
from pathlib import Path
from batchseg.models.resize import opencv
from batchseg.pixels.photo.decode import decode
from batchseg.pixels.photo.limits import Limits
from batchseg.system.machine import give_back_freed_memory

def status(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(word)).split()[1]) * 1024

opencv()
asked = []
limits = Limits(has_room=lambda decoding, needed: asked.append(decoding) or True)
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    for _ in range(2):  # the first loads what its format needs
        give_back_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        picture = decode(data, path.name, limits=limits)
        taken = status("VmHWM") - before
        del picture
    print(path.name, taken, asked[-1] - len(data))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks cannot be told apart")
def test_decoding_takes_what_the_header_says_and_not_much_less(tmp_path):
    base = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 8 % 251).astype(np.uint8)
    rgb = np.dstack([base, base[::-1], 255 - base])
    rgba = np.dstack([rgb, (base > 100) * np.uint8(255)])
    turned = Image.Exif()
    turned[0x0112] = 7
    files = {
        "plain.jpg": encoded(rgb, "JPEG"),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True, subsampling=0),
        "turned.jpg": encoded(rgb, "JPEG", exif=turned),
        "grey.png": encoded(base, compress_level=1),
        "rgb.png": encoded(rgb, compress_level=1),
        "rgba.png": encoded(rgba, compress_level=1),
        "turned.png": encoded(rgba, compress_level=1, exif=turned),
        "clear.png": encoded(rgb, compress_level=1, transparency=(0, 0, 0)),
        "deep.png": encoded(base.astype(np.uint16) * 7, compress_level=1),
        "plain.bmp": encoded(rgb, "BMP"),
        "plain.gif": encoded(base, "GIF"),
        "plain.webp": encoded(rgba, "WEBP", method=0),
        "plain.tif": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "plain.ppm": encoded(rgb, "PPM"),
        "plain.jp2": encoded(rgb, "JPEG2000"),
        "plain.avif": encoded(rgb, "AVIF", speed=10),
        "clear.avif": encoded(rgba, "AVIF", speed=10),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        # Pixels in mappings of their own, as those of large pictures are: pieces of 10 MB would come from the
        # heap, of which the system gets back what happens to lie at its end.
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    told = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _, _ in told] == sorted(files)
    slack = 6 * 2**20
    for name, taken, said in told:
        assert int(taken) <= int(said) * 1.05 + slack, name
        assert int(taken) * 2 + slack >= int(said), name
