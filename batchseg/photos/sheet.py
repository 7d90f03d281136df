"""A contact sheet: one PNG of the images that failed, each defect outlined."""

import contextlib
import io
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from batchseg import storage
from batchseg.errors import BatchsegError, ConfigError, OutputError
from batchseg.photos.lettering import cut, drawable, load_font
from batchseg.photos.outlines import Defect, thumbnail
from batchseg.photos.results import class_color, class_name, column_of, regions_of
from batchseg.photos.summary import Summary, Suspect, describe_counts, describe_period, local_time
from batchseg.state import OutputState, require_results

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
    assert state is not None  # or there were no summary
    ids = [suspect.source_id for suspect in summary.worst]
    regions = regions_of(summary.output, ids, _COLUMNS)
    page = _Page(summary, state, sorted(set(column_of(regions, "class_id").to_pylist())))
    absent = []
    for number, suspect in enumerate(summary.worst):
        own = regions.filter(pc.equal(column_of(regions, "source_id"), pa.scalar(suspect.source_id)))
        reason = page.place(number, suspect, own)
        absent += [(suspect.source_id, reason)] if reason else []
    with _published(target) as making:
        page.image.save(making, format="PNG")
    return Sheet(path=str(target), images=len(summary.worst), absent=tuple(absent))


@contextlib.contextmanager
def _published(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its place at the end."""
    making = target.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        yield making
        making.replace(target)
    except OSError as e:
        msg = f"cannot write {target}: {e.strerror or e}"
        raise OutputError(msg) from e
    finally:
        with contextlib.suppress(OSError):
            making.unlink(missing_ok=True)


class _Page:
    """The sheet while it is drawn: a title, a legend, and places in rows of COLUMNS."""

    def __init__(self, summary: Summary, state: OutputState, class_ids: Sequence[int]) -> None:
        self._state = state
        count = len(summary.worst)
        self._top = GAP * 2 + TITLE_PX + 2 * LINE + GAP
        rows = max(1, -(-count // COLUMNS))
        width = COLUMNS * (ROOM_WH[0] + GAP) + GAP
        self.image = Image.new("RGB", (width, self._top + rows * self._row + GAP), PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._text((GAP, GAP), _title(summary), size=TITLE_PX, width=width - 2 * GAP)
        counts = f"{describe_period(summary)}: {describe_counts(summary.total)}"
        self._text((GAP, GAP + TITLE_PX + 8), counts, width=width - 2 * GAP, ink=PALE)
        self._legend(class_ids, GAP + TITLE_PX + 8 + LINE + 6)
        if not count:
            self._text((GAP, self._top + GAP), "no image to show", size=TITLE_PX, ink=PALE)

    @property
    def _row(self) -> int:
        return ROOM_WH[1] + CAPTION * LINE + GAP * 2

    def place(self, number: int, suspect: Suspect, regions: pa.Table) -> str:
        """Draw an image and its caption. Returns why there is a grey tile instead, or nothing."""
        left = GAP + number % COLUMNS * (ROOM_WH[0] + GAP)
        top = self._top + number // COLUMNS * self._row
        reason = ""
        try:
            pixels = read_photo(suspect)
            small = thumbnail(pixels, _defects(regions, self._state), room_wh=ROOM_WH)
        except _NotShownError as e:
            reason = str(e)
            small = Image.new("RGB", ROOM_WH, GREY)
        at = left + (ROOM_WH[0] - small.width) // 2, top + ROOM_WH[1] - small.height
        self.image.paste(small, at)
        if reason:
            for line, text in enumerate(_wrapped(reason, TEXT_PX, ROOM_WH[0] - 2 * GAP)):
                self._text((left + GAP, top + ROOM_WH[1] // 3 + line * LINE), text)
        self._caption(suspect, regions, left, top + ROOM_WH[1] + 4)
        return reason

    def _caption(self, suspect: Suspect, regions: pa.Table, left: int, top: int) -> None:
        self._text((left, top), suspect.source_id, width=ROOM_WH[0])
        verdict = suspect.verdict or "no verdict"
        end = self._text((left, top + LINE), verdict, ink=VERDICT_INK.get(verdict, INK))
        self._text((end + 8, top + LINE), suspect.rule, width=left + ROOM_WH[0] - end - 8)
        self._text((left, top + 2 * LINE), _largest(suspect, regions), width=ROOM_WH[0], ink=PALE)

    def _legend(self, class_ids: Sequence[int], top: int) -> None:
        x = GAP
        for class_id in class_ids:
            name = class_name(self._state, class_id)
            length = load_font(TEXT_PX).getlength(drawable(name, load_font(TEXT_PX)))
            if x + length + 40 > self.image.width:
                self._text((x, top), "...")
                return
            self._draw.rectangle(
                (x, top + 2, x + 12, top + 14), fill=class_color(self._state, class_id), outline="black"
            )
            x = self._text((x + 18, top), name) + 18

    def _text(
        self, at: tuple[int, int], text: str, *, size: int = TEXT_PX, width: int = 10_000, ink: str = INK
    ) -> int:
        """Write one line, cut in its middle where it is too wide; returns where it ends."""
        font = load_font(size)
        shown = cut(drawable(text, font), width, font.getlength)
        self._draw.text(at, shown, font=font, fill=ink)
        return at[0] + int(font.getlength(shown)) + 1


def _title(summary: Summary) -> str:
    name = summary.output.rstrip("/").rpartition("/")[2]
    return f"{name}   {local_time(summary.last)}" if summary.last else name


def _largest(suspect: Suspect, regions: pa.Table) -> str:
    """Class and area of the largest region, and how many more there are."""
    if not suspect.largest_px:
        return ""
    square = pc.max(regions.column("area_mm2")).as_py()
    area = f"{suspect.largest_px:,} px" + (f" ({square:.3g} mm2)" if square is not None else "")
    more = f", {suspect.region_count - 1} more" if suspect.region_count > 1 else ""
    return f"{suspect.largest_class} {area}{more}".strip()


def _defects(regions: pa.Table, state: OutputState) -> list[Defect]:
    """The largest first, so that small ones lie on top."""
    ordered = regions.sort_by([("area_px", "descending")])
    polygons = shapely.from_wkb(ordered.column("geometry").to_numpy(zero_copy_only=False))
    ids = column_of(ordered, "class_id").to_pylist()
    return [
        Defect(polygon=polygon, color=class_color(state, class_id))
        for polygon, class_id in zip(polygons, ids, strict=True)
    ]


class _NotShownError(Exception):
    """An image cannot be shown; the message fits on a tile."""


def read_photo(suspect: Suspect) -> NDArray[Any]:
    """(H, W, C) of an image as it was when it was done.

    Raises:
        _NotShownError: it is gone, was changed since, or cannot be decoded.
    """
    try:
        info = storage.file_info(suspect.uri)
        if info is None:
            msg = "the file is gone"
            raise _NotShownError(msg)
        if suspect.tag and storage.digest_of([info]) != suspect.tag:
            msg = "the file was changed since"
            raise _NotShownError(msg)
        data = storage.read_bytes(suspect.uri)
    except (OSError, BatchsegError) as e:
        msg = f"the file cannot be read: {e}"
        raise _NotShownError(msg) from e
    return _decoded(data)


def _decoded(data: bytes) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            upright = ImageOps.exif_transpose(image)
        direct = upright.mode in ("L", "RGB") or upright.mode.startswith("I;16")
        pixels = np.asarray(upright if direct else upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as e:
        msg = f"the file cannot be decoded: {e}"
        raise _NotShownError(msg) from e
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """At most four lines."""
    font = load_font(size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(drawable(longer, font)) <= width:
            lines[-1] = longer
        else:
            lines.append(cut(word, width, font.getlength))
    return [line for line in lines if line][:4]
