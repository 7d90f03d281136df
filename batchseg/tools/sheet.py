"""A contact sheet: one PNG of the images that failed, each defect outlined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from batchseg.errors import ConfigError, OutputError, SourceError
from batchseg.output.publish import replaced
from batchseg.output.state import OutputState, require_results
from batchseg.pixels.photo.decode import decode
from batchseg.regions.wkb import read_polygons
from batchseg.system import fetch
from batchseg.system.redact import hidden
from batchseg.system.walk import current_tags
from batchseg.tools.outlines import MARGIN, Defect, cut, drawable, load_font, thumbnail
from batchseg.tools.since import local_time
from batchseg.tools.summary import Summary, Suspect, describe_counts, describe_period
from batchseg.tools.tables import class_color, class_name, column_of, regions_of

COLUMNS = 4
ROOM_WH = (320, 240)
"""Of a thumbnail, in pixels."""

GAP = 14
LINE = 18
"""Height of a line of a caption."""

CAPTION = 3
"""Lines below a thumbnail."""

TEXT_PX, TITLE_PX = 14, 22
PAPER, INK, PALE, GREY = "#f4f4f2", "#1a1a1a", "#6b6b6b", "#b4b4b4"
VERDICT_INK = {"FAIL": "#c0211f", "REVIEW": "#a66200"}

_COLUMNS = ("source_id", "class_id", "area_px", "area_mm2", "geometry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What was drawn."""

    path: str
    images: int
    absent: tuple[tuple[str, str], ...]
    """(source id, reason) of images that could not be shown."""


def write_sheet(summary: Summary, target: Path) -> Sheet:
    """Draw the images in `summary.worst`, in their order.

    Args:
        summary: of an output.
        target: ends in .png; replaced where it exists.

    Raises:
        ConfigError: the name is no PNG's, or the output's regions are not of photographs.
        OutputError: a table cannot be read, or the file cannot be written.
    """
    if target.suffix.lower() != ".png":
        msg = f"--sheet {target}: expected a name that ends in .png"
        raise ConfigError(msg)
    state = require_results(summary.output)
    assert state is not None  # noqa: S101  or there were no summary
    ids = [suspect.source_id for suspect in summary.worst]
    regions = regions_of(summary.output, ids, _COLUMNS)
    shown = []
    for suspect in summary.worst:
        own = regions.filter(pc.equal(column_of(regions, "source_id"), pa.scalar(suspect.source_id)))
        shown.append(_show(suspect, own, state))
    page = _draw(summary, state, sorted(set(column_of(regions, "class_id").to_pylist())), shown)
    with replaced(target) as making:
        page.save(making, format="PNG")
    absent = tuple((one.suspect.source_id, one.reason) for one in shown if one.reason)
    return Sheet(path=str(target), images=len(shown), absent=absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """An image's place on the sheet."""

    suspect: Suspect
    image: Image.Image
    largest: str
    """Class and area of the region that failed it."""
    reason: str
    """Why there is a grey field instead of the image; empty where there is none."""


def _show(suspect: Suspect, regions: pa.Table, state: OutputState) -> _Shown:
    reason = ""
    try:
        pixels = read_photo(suspect, state)
        image = thumbnail(pixels, _defects(regions, state), room_wh=ROOM_WH, paper=PAPER)
    except _NotShownError as e:
        reason = hidden(str(e))
        image = Image.new("RGB", (ROOM_WH[0], ROOM_WH[1] // 2), GREY)
        pen = _Pen(image)
        for number, line in enumerate(pen.wrapped(reason, ROOM_WH[0] - 2 * GAP)):
            pen.write((GAP, GAP + number * LINE), line)
    return _Shown(suspect=suspect, image=image, largest=_largest(suspect, regions), reason=reason)


def _draw(
    summary: Summary, state: OutputState, class_ids: Sequence[int], shown: Sequence[_Shown]
) -> Image.Image:
    """Title, counts, legend, and rows of COLUMNS images, each as high as its highest."""
    rows = [shown[at : at + COLUMNS] for at in range(0, len(shown), COLUMNS)]
    heights = [max(one.image.height for one in row) for row in rows]
    top = 3 * GAP + TITLE_PX + 2 * LINE
    height = top + sum(heights) + len(rows) * (CAPTION * LINE + 2 * GAP) + (0 if rows else 4 * GAP)
    page = Image.new("RGB", (COLUMNS * (ROOM_WH[0] + 2 * MARGIN + GAP) + GAP, height), PAPER)
    pen = _Pen(page)
    width = page.width - 2 * GAP
    pen.write((GAP, GAP), _title(summary), size=TITLE_PX, width=width)
    counts = f"{describe_period(summary)}: {describe_counts(summary.total)}"
    pen.write((GAP, GAP + TITLE_PX + 8), counts, width=width, ink=PALE)
    _legend(pen, state, class_ids, GAP + TITLE_PX + LINE + 14)
    if not rows:
        pen.write((GAP, top + GAP), "no image to show", size=TITLE_PX, ink=PALE)
    for row, high in zip(rows, heights, strict=True):
        for number, one in enumerate(row):
            left = GAP + number * (ROOM_WH[0] + 2 * MARGIN + GAP)
            centred = left + (ROOM_WH[0] + 2 * MARGIN - one.image.width) // 2
            page.paste(one.image, (centred, top + high - one.image.height))
            _caption(pen, one, left, top + high + 2)
        top += high + CAPTION * LINE + 2 * GAP
    return page


def _caption(pen: "_Pen", shown: _Shown, left: int, top: int) -> None:
    suspect = shown.suspect
    pen.write((left, top), suspect.source_id, width=ROOM_WH[0])
    verdict = suspect.verdict or "no verdict"
    end = pen.write((left, top + LINE), verdict, ink=VERDICT_INK.get(verdict, INK)) + 8
    pen.write((end, top + LINE), suspect.reason or suspect.rule, width=left + ROOM_WH[0] - end)
    pen.write((left, top + 2 * LINE), shown.largest, width=ROOM_WH[0], ink=PALE)


def _legend(pen: "_Pen", state: OutputState, class_ids: Sequence[int], top: int) -> None:
    x = GAP
    for class_id in class_ids:
        name = class_name(state, class_id)
        if x + pen.length(name) + 40 > pen.width:
            pen.write((x, top), "...")
            return
        pen.swatch((x, top + 3), class_color(state, class_id))
        x = pen.write((x + 18, top), name) + 18


class _Pen:
    """Writes on an image."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self.width = image.width

    def write(
        self, at: tuple[int, int], text: str, *, size: int = TEXT_PX, width: int = 10_000, ink: str = INK
    ) -> int:
        """Write one line, cut in its middle where it is too wide; returns where it ends."""
        font = load_font(size)
        shown = cut(drawable(text, font), width, font.getlength)
        self._draw.text(at, shown, font=font, fill=ink)
        return at[0] + int(font.getlength(shown)) + 1

    def length(self, text: str) -> float:
        font = load_font(TEXT_PX)
        return font.getlength(drawable(text, font))

    def wrapped(self, text: str, width: int) -> list[str]:
        """At most four lines."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            lines[-1:] = [longer] if self.length(longer) <= width else [lines[-1], word]
        return [line for line in lines if line][:4]

    def swatch(self, at: tuple[int, int], color: str) -> None:
        self._draw.rectangle((*at, at[0] + 12, at[1] + 12), fill=color, outline="black")


def _title(summary: Summary) -> str:
    name = hidden(summary.output).rstrip("/").rpartition("/")[2]
    return f"{name}   {local_time(summary.last)}" if summary.last else name


def _largest(suspect: Suspect, regions: pa.Table) -> str:
    """Class and area of the largest region that its rule hit, and how many more there are."""
    if not suspect.rule_px:
        return ""
    square = pc.max(regions.column("area_mm2")).as_py()
    if square is not None:  # of the largest of all, which need not be that one
        square *= suspect.rule_px / pc.max(regions.column("area_px")).as_py()
    area = f"{suspect.rule_px:,} px" + (f" ({square:.3g} mm2)" if square is not None else "")
    more = f", {suspect.region_count - 1} more" if suspect.region_count > 1 else ""
    return f"{suspect.rule_class} {area}{more}".strip()


def _defects(regions: pa.Table, state: OutputState) -> list[Defect]:
    """The largest first, so that small ones lie on top. Raises _NotShownError where they are damaged."""
    ordered = regions.sort_by([("area_px", "descending")])
    try:
        polygons = read_polygons(ordered.column("geometry"), "its regions")
    except OutputError as e:
        msg = "its outlines are damaged"
        raise _NotShownError(msg) from e
    ids = column_of(ordered, "class_id").to_pylist()
    return [
        Defect(polygon=polygon, color=class_color(state, class_id))
        for polygon, class_id in zip(polygons, ids, strict=True)
    ]


class _NotShownError(Exception):
    """An image cannot be shown; the message fits on a tile."""


def read_photo(suspect: Suspect, state: OutputState) -> NDArray[Any]:
    """(H, W, C) of an image as it was when it was done.

    Raises:
        _NotShownError: it is gone, was changed since, cannot be decoded, or is none of the job's inputs.
    """
    if not state.is_input(suspect.uri):  # who may write the table must not choose what is read, or asked
        msg = "the file lies outside the job's inputs"
        raise _NotShownError(msg)
    try:
        (tag,) = current_tags([suspect.uri])
        if tag is None:
            msg = "the file is gone"
            raise _NotShownError(msg)
        if suspect.tag and tag != suspect.tag:
            msg = "the file was changed since"
            raise _NotShownError(msg)
        data = fetch.read_bytes(suspect.uri)
    except (OSError, SourceError) as e:
        msg = f"the file cannot be read: {e}"
        raise _NotShownError(msg) from e
    try:
        return decode(data, suspect.source_id).pixels
    except SourceError as e:
        msg = f"the file cannot be decoded: {e}"
        raise _NotShownError(msg) from e
