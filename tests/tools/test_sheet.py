"""The contact sheet: outlines beside the defects they surround, and what cannot be shown is said."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import RED, picture
from factories import Photo, make_photo_output
from numpy.typing import NDArray
from PIL import Image, ImageColor

from batchseg.cli.main import main
from batchseg.errors import ConfigError, OutputError
from batchseg.system.walk import current_tags
from batchseg.tools.outlines import (
    LARGEST_SCALE,
    MARGIN,
    as_rgb,
    thumbnail,
)
from batchseg.tools.sheet import ROOM_WH, _largest, write_sheet
from batchseg.tools.summary import summarize
from batchseg.tools.tables import regions_of


def test_images_keep_their_proportions_and_are_not_blown_up() -> None:
    for height, width, expected in ((500, 1000, (320, 160)), (3000, 20, (2, 240)), (10, 15, (60, 40))):
        image = thumbnail(picture(height, width), [], room_wh=(320, 240))
        assert image.size == (expected[0] + 2 * MARGIN, expected[1] + 2 * MARGIN)
    assert LARGEST_SCALE == 4


def test_every_type_of_pixel_becomes_eight_bits() -> None:
    ramp = np.arange(20_000, 20_900, dtype=np.uint16).reshape(30, 30, 1)
    stretched = as_rgb(ramp)
    assert (stretched.min(), stretched.max(), stretched.shape) == (0, 255, (30, 30, 3))
    assert (np.diff(stretched[..., 0].ravel().astype(int)) >= 0).all()
    colors = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(as_rgb(colors), colors[..., :3])
    np.testing.assert_array_equal(as_rgb(colors[..., :2])[..., 2], colors[..., 0])
    floats = np.array([[[np.nan], [0.25], [np.inf], [0.75]]], np.float32)
    assert as_rgb(floats)[0, :, 0].tolist() == [0, 0, 255, 255]
    assert as_rgb(np.full((2, 3, 1), np.nan)).max() == 0
    assert as_rgb(np.full((2, 3, 1), 7, np.uint16)).max() == 0


def blot(value: int = 1) -> NDArray[np.uint8]:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:50] = value
    return mask


def tag_of(path: Path) -> str:
    (tag,) = current_tags([str(path)])
    assert tag is not None
    return tag


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Good files, and each kind of what cannot be shown."""
    photos = []
    for name in ("a.png", "检 b.png", "changed.png", "damaged.png", "gone.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(path)
        photos.append(Photo(source_id=name, mask=blot(), uri=str(path), tag=tag_of(path)))
    (tmp_path / "in" / "gone.png").unlink()
    Image.new("L", (8, 8)).save(tmp_path / "in" / "changed.png")
    damaged = tmp_path / "in" / "damaged.png"
    damaged.write_bytes(b"no image")
    photos[3] = Photo(source_id="damaged.png", mask=blot(), uri=str(damaged), tag=tag_of(damaged))
    photos.append(Photo(source_id="fine.png", mask=blot(0), uri="nowhere"))
    return make_photo_output(tmp_path / "out", photos, pixel_size=0.1, inputs=[str(tmp_path / "in")])


def test_a_sheet_shows_failures_and_says_what_it_cannot_show(output: str, tmp_path: Path) -> None:
    sheet = write_sheet(summarize(output, since="all"), tmp_path / "sheet.png")
    assert sheet.images == 5
    reasons = dict(sheet.absent)
    assert sorted(reasons) == ["changed.png", "damaged.png", "gone.png"]
    assert "changed" in reasons["changed.png"]
    assert "gone" in reasons["gone.png"]
    assert "decoded" in reasons["damaged.png"]
    with Image.open(sheet.path) as image:
        drawn = np.array(image.convert("RGB"))
    assert drawn.shape[1] > 4 * ROOM_WH[0]
    outlined = np.all(drawn == ImageColor.getrgb(RED), axis=2)  # class 1 of the output's own colours
    side = 20 * LARGEST_SCALE
    assert 2 * 4 * side < outlined.sum() < 2 * 4 * side * 2 + 12 * 12 + 100  # two images, and the legend
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "sheet.png"]


def failed_photo(name: str, uri: str, tag: str = "") -> Photo:
    return Photo(source_id=name, mask=blot(), uri=uri, tag=tag)


def test_no_image_is_read_but_the_job_s_inputs(tmp_path: Path) -> None:
    """Who may write the output's tables must not choose what of the machine is drawn."""
    private = tmp_path / "private.png"
    Image.fromarray(np.full((60, 80, 3), (250, 0, 250), np.uint8)).save(private)
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(tmp_path / "in" / "a.png")
    ways = (
        f"{private}",
        f"{tmp_path}/in/../private.png",
        f"file://{private}",
        f"{tmp_path}/in/a.png::{private}",
    )
    photos = [failed_photo(f"{number}.png", uri, tag_of(private)) for number, uri in enumerate(ways)]
    photos.append(failed_photo("a.png", f"{tmp_path}/in/a.png", tag_of(tmp_path / "in" / "a.png")))
    output = make_photo_output(tmp_path / "out", photos, inputs=[f"{tmp_path}/in"])
    sheet = write_sheet(summarize(output, since="all"), tmp_path / "sheet.png")
    assert dict(sheet.absent) == {
        f"{n}.png": "the file lies outside the job's inputs" for n in range(len(ways))
    }
    with Image.open(sheet.path) as image:
        assert (250, 0, 250) not in {color for _, color in image.convert("RGB").getcolors(100_000) or []}


def test_no_address_is_asked_but_those_of_the_job_s_inputs(tmp_path: Path) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        names = ("admin", "in/../admin", "inner/a.png", "in/a.png")
        photos = [failed_photo(f"{number}.png", f"{host}/{name}") for number, name in enumerate(names)]
        output = make_photo_output(tmp_path / "out", photos, inputs=[f"{host}/in"])
        sheet = write_sheet(summarize(output, since="all"), tmp_path / "sheet.png")
        server.shutdown()
    assert set(asked) == {"/in/a.png"}
    assert ["outside" in reason for _, reason in sorted(sheet.absent)] == [True, True, True, False]


def test_outlines_that_are_damaged_are_a_grey_field(output: str, tmp_path: Path) -> None:
    for path in (tmp_path / "out" / "annotations").rglob("*.parquet"):
        table = pq.read_table(path)
        broken = pa.array([b"\x01\x03"] * len(table), pa.binary())
        place = table.schema.get_field_index("geometry")
        pq.write_table(table.set_column(place, table.schema.field("geometry"), broken), path)
    sheet = write_sheet(summarize(output, since="all"), tmp_path / "sheet.png")
    assert "its outlines are damaged" in dict(sheet.absent).values()


def test_the_command_draws_so_many_images(
    output: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sheet.png"
    with pytest.raises(SystemExit) as ended:
        main(["summary", output, "--since", "all", "--sheet", str(target), "--images", "1"])
    assert ended.value.code == 0
    assert f"{target}: 1 image" in capfd.readouterr().out
    with Image.open(target) as image:
        assert image.height < 2 * ROOM_WH[1]


def test_a_good_night_has_an_empty_sheet(tmp_path: Path) -> None:
    photos = [Photo(source_id="a.png", mask=blot(0))]
    summary = summarize(make_photo_output(tmp_path / "out", photos), since="all")
    assert write_sheet(summary, tmp_path / "sheet.png").images == 0
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 4 * ROOM_WH[0]


def test_a_sheet_that_cannot_be_written_is_an_error(output: str, tmp_path: Path) -> None:
    summary = summarize(output, since="all")
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        write_sheet(summary, tmp_path / "sheet.jpg")
    with pytest.raises(OutputError, match="cannot write"):
        write_sheet(summary, tmp_path / "none" / "sheet.png")


def test_older_outputs_have_the_palettes_colors(tmp_path: Path) -> None:
    photos = [Photo(source_id="a.png", mask=blot())]
    summary = summarize(make_photo_output(tmp_path / "out", photos, colors=()), since="all")
    write_sheet(summary, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        colors = {color for _, color in image.convert("RGB").getcolors(10_000) or []}
    assert ImageColor.getrgb("#f28e2b") in colors


def test_a_caption_tells_of_the_region_that_failed_the_image(tmp_path: Path) -> None:
    """Of a region of interest a rule sees 5 of the 12 pixels of the smaller region."""
    mask = np.zeros((20, 30), np.uint8)
    mask[2:18, 2:20] = 1
    mask[3:6, 22:26] = 2
    hit = {"rule_px": 5, "rule_class": "crack"}
    out = make_photo_output(tmp_path / "out", [Photo(source_id="a.png", mask=mask, item=hit)], pixel_size=0.1)
    (suspect,) = summarize(out, since="all").worst
    regions = regions_of(out, ["a.png"], ["source_id", "area_px", "area_mm2"])
    assert _largest(suspect, regions) == "crack 5 px (0.05 mm2), 1 more"
