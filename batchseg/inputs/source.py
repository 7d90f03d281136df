"""What is known of a source: where it is, which version, and what its header says."""

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute

from batchseg.errors import MismatchError, SourceError
from batchseg.system.location import Location

Affine6 = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BandMetadata:
    """What metadata beside a raster says of one of its bands; None: nothing."""

    scale: float | None = None
    """Reflectance is raw * scale + offset."""
    offset: float = 0.0
    nodata: float | None = None
    spacecraft: str = ""
    """And its sensor, of Landsat: `LANDSAT_5 TM`. It says what the numbers of bands mean."""


Said = tuple[tuple[BandMetadata, ...], ...]
"""Per raster: one entry per band, one entry for all its bands, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMask:
    """A raster that marks pixels of a scene as without data: one band, or one for each flag."""

    uri: str
    by: Literal["bits", "values", "bands"]
    numbers: tuple[int, ...]
    """Bits, of which one that is set marks a pixel, values, or bands from 1, of which one other than 0 does.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input file, or the files of one scene, as the listing shows them, before anybody opened them."""

    source_id: str
    """Path below the input's literal prefix, extension kept, or the scene's name: names the outputs."""
    uri: str
    """The file; of several, the first."""
    files: tuple[str, ...]
    """Rasters, sidecars and metadata: all that the tag covers."""
    tag: str
    """Digest of the files' sizes and versions (ETag or mtime): another tag, another version."""
    size: int | None
    """Bytes of the raster, or of all of them; None where a web server does not say."""
    problem: str = ""
    """What already the listing shows to be wrong with it."""
    rasters: tuple[str, ...] = ()
    """Files whose bands are stacked, in this order. Empty: `uri` alone, and nothing beside it says more."""
    names: tuple[str, ...] = ()
    """Per raster what the job file calls it: one tuple for all sources of an input."""
    resampling: str = "none"
    """How files of other grids are brought to the finest; `none`: they are refused."""
    metadata: tuple[str, ...] = ()
    """Per raster the file for `metadata.read_metadata`, or an empty string; empty: no raster has one."""
    said: Said = ()
    """Per raster what the listing itself (a STAC item) said; empty: nothing of any."""
    mask: SourceMask | None = None
    """What else has no data; beside `rasters`, and of any grid of their CRS."""
    allow_vrt: bool = False
    """It may be a VRT, which reads other files of the machine."""
    young: bool = False
    """One of its files changed less than the job's `min_age` ago: it may still be written."""

    @property
    def opened(self) -> tuple[str, ...]:
        """All that is opened as a raster."""
        return (*(self.rasters or (self.uri,)), *((self.mask.uri,) if self.mask else ()))

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's disks, rather than in a bucket or on a web server."""
        return Location.of(self.uri).is_local


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPoint:
    """One ground control point; `row` and `col` in pixels, `x`, `y`, `z` in the CRS's units."""

    row: float
    col: float
    x: float
    y: float
    z: float
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Georeference:
    """Where a raster lies, kept as the file says it so that the mask can say the same."""

    crs_wkt: str | None
    transform: Affine6 | None
    """(a, b, c, d, e, f) in the affine package's order: x = a*col + b*row + c. None: no geotransform."""
    gcps: tuple[ControlPoint, ...]
    gcps_crs_wkt: str | None
    rpcs: tuple[tuple[str, str], ...]
    """GDAL's RPC metadata items."""


Box = tuple[float, float, float, float]
"""Top, left, bottom and right of what may reach beyond a scene, in its pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One source raster, as its header says."""

    source: Source
    driver: str
    height: int
    width: int
    dtypes: tuple[str, ...]
    """One per band."""
    nodata: tuple[float | None, ...]
    """One per band."""
    alpha_bands: tuple[int, ...]
    """Numbers (from 1) of the bands tagged as alpha."""
    block_hw: tuple[int, int]
    """The file's internal block; whole rows of a striped file are a block of the raster's width."""
    georeference: Georeference
    rescale: tuple[tuple[float, float] | None, ...] = ()
    """Scale and offset to reflectance, one pair per band; None where nothing says them."""
    band_names: tuple[str, ...] = ()
    """What the job calls each band's file, else the file's description of it; empty where neither says."""
    roles: tuple[str, ...] = ()
    """What each band is by the numbers of its product, as `red` or `swir1`; empty where it says nothing."""
    satellite: str = ""
    """Whose numbers these are, as `Landsat 5`."""
    colors: tuple[str, ...] = ()
    """Colour interpretation of each band, as `red` or `palette`; empty where it says nothing."""
    boxes: tuple[Box, ...] = ()
    """Per band where its file lies, in pixels of the scene; empty: all files lie on its grid."""
    own: "Scene | None" = None
    """The same on the grid of its files, where this one is read on another (`pixels/model_grid`)."""

    @property
    def on_own_grid(self) -> "Scene":
        """As its files have it."""
        return self.own or self

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def band_count(self) -> int:
        return len(self.dtypes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a source cannot be segmented by this job, in words for its owner."""

    source: Source
    reason: str
    transient: bool = False
    """True: the storage failed, the next run tries again. False: quarantined until its tag changes."""
    mismatch: bool = False
    """True: the file is sound and the job asks for something else (bands, dtype)."""

    @classmethod
    def of(cls, source: Source, error: SourceError) -> "Refusal":
        return cls(source=source, reason=str(error), transient=error.transient)


Column = Any
"""pa.Array or pa.ChunkedArray, which take the type of their values in the stubs and none at run time."""


compute: Any = pyarrow.compute
"""Its stubs know neither Python's values beside columns nor what most functions return."""


LISTING = pa.schema(
    {  # type: ignore[arg-type]
        "source_id": pa.string(),
        "uri": pa.string(),
        "tag": pa.string(),  # size and version of the file: another tag, another version
        "size": pa.int64(),  # bytes of its rasters; where a web server does not say: null, of photographs 0
        "young": pa.bool_(),  # changed less than the job's `min_age` ago
        "problem": pa.string(),  # what already the listing shows to be wrong with it; empty: nothing
        "attributes": pa.string(),  # JSON object of strings, keys sorted; empty: the input says nothing more
        "more": pa.string(),  # what a scene has beyond one file, as `scene_rows` writes it; empty: nothing
    }
)
"""One row per scene or photograph as the listing shows it, sorted by `source_id`, each id once. Ten million
must not be ten million objects: a `Source` is made of a row when it is needed."""


def words(column: Column) -> list[Any]:
    """A column's cells as Python values; the stubs think that each may be None."""
    cells: list[Any] = column.to_pylist()
    return cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A photograph that could not be done; it is looked at alone before anything is recorded."""

    source_id: str
    reason: str
    transient: bool
    """The storage failed, or the file changed: the next run tries again."""
    is_mismatch: bool = False
    """The file is sound, and the model takes other bands or values."""
    is_own: bool = False
    """The content is to blame, as the storage gave it: any number of photographs may be so."""

    @classmethod
    def of(cls, source_id: str, error: SourceError) -> "Doubt":
        """What an error says of a photograph."""
        return cls(
            source_id=source_id,
            reason=str(error),
            transient=error.transient,
            is_mismatch=isinstance(error, MismatchError),
            is_own=not error.transient,
        )
