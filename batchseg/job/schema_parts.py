"""What stands below the job file's keys: checked as it is written there, before paths and defaults."""

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from batchseg.job.masks import mask_flags
from batchseg.job.products import Preset, assets_in_words, known_assets
from batchseg.job.settings import Resampling


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        kind, msg = "no_number", "expected a number"
        raise PydanticCustomError(kind, msg)
    return value


Number = Annotated[float, Field(strict=False), BeforeValidator(_no_bool)]
Finite = Annotated[Number, Field(allow_inf_nan=False)]


class Divide(Strict):
    divide: Number = Field(gt=0)


class Stretch(Strict):
    stretch: list[Number | list[Number]] = Field(min_length=2, max_length=2)


class Normalize(Strict):
    mean: list[Number] = Field(min_length=1)
    std: list[Number] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_length(self) -> "Normalize":
        if len(self.mean) != len(self.std):
            msg = f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each per band"
            raise ValueError(msg)
        if any(value == 0 for value in self.std):
            msg = "std must not be 0"
            raise ValueError(msg)
        return self


ClassName = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
"""Not empty, no control characters, which XML cannot hold."""


class Class(Strict):
    name: ClassName
    color: str | None = Field(default=None, pattern=r"^#[0-9a-fA-F]{6}$")


class RegionKeys(Strict):
    min_area: int = Field(default=1, ge=1)
    """Pixels that a region needs to get a row."""
    simplify: Number = Field(default=0.0, ge=0)
    """Tolerance in pixels by which outlines are simplified; 0 keeps them exact."""
    classes: list[str | int] | None = Field(default=None, min_length=1)
    """Names or ids of classes; all but class 0 if not set."""
    max_vertices: int = Field(default=1_000_000, ge=1000)
    """A region with more vertices is cut into several rows of one `region_id`; memory stays bounded."""
    connectivity: Literal[4, 8] = 4
    """`4`: pixels of one class are a region where they touch by their sides. `8`: by their corners too; such
    a region has [a row for each part](outputs.md#regions) that touches by sides, all of one `region_id`.
    """


_SET_KEYS = {
    "bands": {"bands", "resampling", "mask"},
    "manifest": {"manifest", "columns", "id", "resampling", "mask"},
    "stac": {"stac", "assets", "resampling", "mask"},
    "landsat": {"landsat", "assets", "resampling", "mask"},
    "sentinel2": {"sentinel2", "assets", "resampling", "mask"},
}


_NEEDED = {"manifest": "columns", "stac": "assets", "landsat": "assets", "sentinel2": "assets"}


_PRESETS = frozenset(get_args(Preset))
"""Of `_SET_KEYS` those that are names of inputs, too, unless `assets` and the like stand beside them."""


def _kinds(keys: Collection[Any]) -> list[str]:
    """Which kinds of scene sets the keys of an input are of."""
    beside = {"assets", "mask"} & {*keys}
    return [kind for kind in _SET_KEYS if kind in keys and (kind not in _PRESETS or beside)]


def _no_set_key(name: str) -> str:
    if name in _SET_KEYS.keys() - _PRESETS:
        kind, msg = "set_key", "a key of scene sets, not a name of an input"
        raise PydanticCustomError(kind, msg)
    return name


InputName = Annotated[str, Field(pattern=r"^[\w-][\w .-]*$"), AfterValidator(_no_set_key)]
"""First folder of the ids: one plain name, so that no id leads out of the output."""

_Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class SceneSet(Strict):
    bands: Annotated[dict[str, str], Field(min_length=1)] | None = None
    manifest: str | None = None
    columns: _Names | None = None
    id: str | None = None
    stac: str | None = None
    landsat: str | None = None
    sentinel2: str | None = None
    assets: _Names | None = None
    resampling: Resampling = "none"
    mask: Any = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_kind(cls, value: Any) -> Any:
        kinds = _kinds(value) if isinstance(value, dict) else []
        if not kinds:
            error, msg = "no_set", "no scene set"
            raise PydanticCustomError(error, msg)
        if len(kinds) > 1:
            msg = (
                f"scenes of several files have one of {', '.join(f'`{kind}`' for kind in _SET_KEYS)}, and no "
                f"input can have such a name; found {' and '.join(kinds)}"
            )
            raise ValueError(msg)
        known = _SET_KEYS[kinds[0]]
        unknown = [key for key in value if key not in known]
        if unknown:
            msg = (
                f"{unknown[0]!r} is no key of scenes by {kinds[0]}."
                f"{suggestion(str(unknown[0]), sorted(known))}"
            )
            raise ValueError(msg)
        if value.get("resampling", "none") not in get_args(Resampling):
            msg = f"resampling is one of {', '.join(get_args(Resampling))}; found {value['resampling']!r}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _complete(self) -> "SceneSet":
        for kind, needed in _NEEDED.items():
            if getattr(self, kind) is not None and not getattr(self, needed):
                example = "nir08" if kind == "landsat" else "nir"
                msg = f"{kind}: say which files make a scene, as in `{needed}: [red, {example}]`"
                raise ValueError(msg)
        if self.preset is not None:
            check_assets(self.preset, self.assets or ())
        if self.mask is not None:
            mask_flags(self.kind, self.mask)
        for name, pattern in (self.bands or {}).items():
            if "{scene}" not in pattern:
                msg = f"bands: {name}: {pattern} has no {{scene}}, which names the scene in every pattern"
                raise ValueError(msg)
            if other := re.search(r"\{(?!scene\})[^}/]*\}?", pattern):
                msg = f"bands: {name}: {pattern} has {other[0]}; only {{scene}} can stand in braces"
                raise ValueError(msg)
        return self

    @property
    def kind(self) -> Literal["bands", "manifest", "stac", "landsat", "sentinel2"]:
        """Which of the keys says what makes a scene."""
        if self.bands is not None:
            return "bands"
        return self.preset or ("stac" if self.stac is not None else "manifest")

    @property
    def preset(self) -> Preset | None:
        """Whose products these are."""
        return "landsat" if self.landsat is not None else "sentinel2" if self.sentinel2 is not None else None


def check_assets(preset: Preset, assets: Sequence[str]) -> None:
    """Raises ValueError where products of this kind have no such asset, or one is named twice."""
    known = known_assets(preset)
    if unknown := next((asset for asset in assets if asset not in known), None):
        longer = [asset for asset in sorted(known) if asset.startswith(unknown)]
        near = (longer or difflib.get_close_matches(unknown, known, n=1))[:1]
        hint = f"perhaps you meant {near[0]!r}. " if near else ""
        msg = f"{preset}: assets: there is no {unknown!r}; {hint}{assets_in_words(preset)}"
        raise ValueError(msg)
    if twice := next((asset for asset in assets if assets.count(asset) > 1), None):
        msg = f"{preset}: assets: {twice} is named twice; leave one out"
        raise ValueError(msg)


Input = str | SceneSet


class Area(Strict):
    file: str = Field(min_length=1)
    layer: str | None = None


class Model(Strict):
    path: str = Field(min_length=1)
    """The folder, the ONNX file, or OpenVINO's `.xml`."""
    layout: Literal["NCHW", "NHWC"] | None = None
    """Order of the input's axes."""
    output: Literal["logits", "probabilities", "sigmoid", "classes"] | None = None
    """What the network gives: scores before softmax, probabilities, one sigmoid, or class ids. Numbers of
    other kinds are `result: values`."""
    output_name: str | None = Field(default=None, min_length=1)
    """Of a network with several outputs: the one that counts. If not set, `anomaly_map` where there is
    one, else the first."""
    threshold: Number | None = Field(default=None, gt=0, lt=1)
    """Of a sigmoid: the probability from which a pixel belongs to class 1; 0.5 if not set."""
    size_divisor: int | None = Field(default=None, ge=1)
    """The input's sides must be multiples of this."""
    key_file: str | None = None
    """The key of an [encrypted model](models.md#encrypted-models)."""


class Truth(Strict):
    images: Annotated[str, Field(min_length=1)]
    """A folder, a glob or a manifest of images of which somebody knows the classes."""
    labels: Annotated[str, Field(min_length=1)]
    """The same of their labels: rasters of class ids with the images' sizes and names, whatever the ending.
    What is no class of the model counts for nothing."""


class Gate(Strict):
    margin: Number = Field(default=0.05, ge=0, lt=1)
    """The reference is sure of a pixel whose two best probabilities lie further apart than this. Pixels of
    which it is not sure do not count."""
    equal_pixels: Number = Field(default=0.9999, ge=0, le=1)
    """Share of the pixels that count in which an engine must agree with the reference."""
    iou: Number = Field(default=0.999, ge=0, le=1)
    """IoU with the reference of every class with at least 1,000 pixels that count."""
    tiles: int = Field(default=8, ge=1, le=1000)
    """Tiles of the job's own data on which each engine is tried."""
    seconds: Number = Field(default=1.5, gt=0)
    """How long the speed of each engine is measured."""
    truth: Truth | None = None
    """`{images: held-out/images, labels: held-out/labels}`: then accuracy decides about an engine, not how
    near it is to the reference, and `auto` tries int8 as well."""
    miou_drop: Number = Field(default=0.005, ge=0, le=1)
    """By how much an engine's mean IoU against the truth may be below the reference's."""
    budget: Number = Field(default=20.0, ge=0)
    """Seconds that the trials of an output may take, or a twentieth of its work where that is more; a trial
    that was begun is finished. `0`: no trials, and what the job leaves open is as the model has it."""


class Interest(Strict):
    box: list[Finite] | None = Field(default=None, min_length=4, max_length=4)
    """`[x_min, y_min, x_max, y_max]`, from the upper left corner of the upright image."""
    polygon: list[list[Finite]] | None = None
    """Three or more corners, `[[x, y], ...]`."""
    unit: Literal["px", "share"] = "px"
    """Pixels, or shares of the image's width and height."""

    @model_validator(mode="after")
    def _is_a_part(self) -> "Interest":
        if (self.box is None) == (self.polygon is None):
            msg = "region_of_interest: give a box or a polygon"
            raise ValueError(msg)
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            msg = f"region_of_interest: box is [x_min, y_min, x_max, y_max]; found {_brief(self.box)}"
            raise ValueError(msg)
        if any(len(corner) != 2 for corner in self.polygon or ()) or len(self.corners_xy) < 3:
            msg = (
                f"region_of_interest: polygon is three or more corners such as [[10, 20], [400, 20], "
                f"[400, 300]]; found {_brief(self.polygon)}"
            )
            raise ValueError(msg)
        most = 1.0 if self.unit == "share" else float("inf")
        outside = [corner for corner in self.corners_xy if not all(0 <= at <= most for at in corner)]
        if outside:
            allowed = "shares are 0..1 of the width and height" if most == 1 else "the image begins at 0"
            msg = f"region_of_interest: {allowed}; found {_brief(outside[0])}"
            raise ValueError(msg)
        width, height = (max(side) - min(side) for side in zip(*self.corners_xy, strict=True))
        if self.unit == "px" and width < 2 and height < 2:
            msg = (
                f"region_of_interest: {width:.12g} x {height:.12g} pixels is next to nothing; "
                f"did you mean unit: share?"
            )
            raise ValueError(msg)
        return self

    @property
    def corners_xy(self) -> tuple[tuple[float, float], ...]:
        if self.box is not None:
            left, top, right, bottom = self.box
            return (left, top), (right, top), (right, bottom), (left, bottom)
        corners = tuple((corner[0], corner[1]) for corner in self.polygon or ())
        return corners[:-1] if len(corners) > 1 and corners[0] == corners[-1] else corners


class Rule(Strict):
    """A rule as it is written. Next: `settings.Rule`."""

    name: ClassName | None = None
    """What the tables call the rule. If not set, it is named by its other keys, such as `crack >= 30 px`."""
    classes: str | int | Annotated[list[str | int], Field(min_length=1)] | None = Field(
        default=None, alias="class"
    )
    """A class's name or id, or a list of such; all but class 0 if not set."""
    min_area: Finite = Field(default=0.0, ge=0)
    """Pixels that a region needs; 0 takes any region."""
    min_area_mm2: Finite = Field(default=0.0, ge=0)
    """The same in square millimetres; needs the job's `pixel_size`."""
    count: int = Field(default=1, ge=1)
    """Regions that the rule needs, each as large and as certain."""
    min_confidence: Finite = Field(default=0.0, ge=0, le=1)
    """Mean probability that a region's pixels need, 0..1; needs `confidence: true`."""
    then: Literal["FAIL", "REVIEW"] = "FAIL"
    """The verdict where the rule hits."""
    region_of_interest: Interest | None = None
    """[The part of the image](#region-of-interest) that the rule looks at; all of it if not set."""
    min_valid: Finite = Field(default=1.0, ge=0, le=1)
    """Share of what the rule looks at that [must have data](#what-was-inspected) for a PASS; 0: any pixel."""

    @property
    def class_list(self) -> tuple[str | int, ...] | None:
        if self.classes is None:
            return None
        return tuple(self.classes) if isinstance(self.classes, list) else (self.classes,)

    @property
    def title(self) -> str:
        """The name, else what the rule looks for.

        >>> Rule.model_validate({"class": ["blowhole", "fray"], "min_area": 30, "count": 3}).title
        '3 x blowhole or fray >= 30 px'
        """
        if self.name is not None:
            return self.name
        what = " or ".join(
            c if isinstance(c, str) else f"class {c}" for c in self.class_list or ("any region",)
        )
        least = [(self.min_area, "px"), (self.min_area_mm2, "mm2")]
        sizes = "".join(f" >= {value:.12g} {unit}" for value, unit in least if value)
        times = f"{self.count} x " if self.count > 1 else ""
        sure = f", confidence >= {self.min_confidence:.12g}" if self.min_confidence else ""
        return times + what + sizes + sure + (" in the region of interest" if self.region_of_interest else "")


def _brief(value: Any) -> str:
    """Numbers as they were written.

    >>> _brief([[1.0, 2.5]])
    '[[1, 2.5]]'
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(_brief(item) for item in value)}]"
    return f"{value:.12g}"


def suggestion(key: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(key, known, n=1)
    if matches:
        return f" Perhaps you meant {matches[0]!r}?"
    return f" Known keys: {', '.join(known)}"
