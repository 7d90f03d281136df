"""The job file: YAML to frozen, checked values. The only module that uses pydantic."""

import datetime as dt
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from batchseg.errors import ConfigError
from batchseg.settings import (
    PALETTE,
    AreaFile,
    ClassInfo,
    EngineName,
    Gate,
    JobConfig,
    ModelOptions,
    Normalize,
    Precision,
    RegionOptions,
    Resampling,
    Scale,
    SceneSet,
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        kind, msg = "no_number", "expected a number"
        raise PydanticCustomError(kind, msg)
    return value


Number = Annotated[float, Field(strict=False), BeforeValidator(_no_bool)]


class _Divide(_Strict):
    divide: Number = Field(gt=0)


class _Stretch(_Strict):
    stretch: list[Number | list[Number]] = Field(min_length=2, max_length=2)


class _Normalize(_Strict):
    mean: list[Number] = Field(min_length=1)
    std: list[Number] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_length(self) -> "_Normalize":
        if len(self.mean) != len(self.std):
            msg = f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each per band"
            raise ValueError(msg)
        if any(value == 0 for value in self.std):
            msg = "std must not be 0"
            raise ValueError(msg)
        return self


_ClassName = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
"""Not empty, no control characters, which XML cannot hold."""


class _Class(_Strict):
    name: _ClassName
    color: str | None = Field(default=None, pattern=r"^#[0-9a-fA-F]{6}$")


class _Regions(_Strict):
    min_area: int = Field(default=1, ge=1)
    simplify: Number = Field(default=0.0, ge=0)
    classes: list[str | int] | None = Field(default=None, min_length=1)
    max_vertices: int = Field(default=1_000_000, ge=1000)


_SET_KEYS = {
    "bands": {"bands", "resampling"},
    "manifest": {"manifest", "columns", "id", "resampling"},
    "stac": {"stac", "assets", "resampling"},
}


def _no_set_key(name: str) -> str:
    if name in _SET_KEYS:
        kind, msg = "set_key", "a key of scene sets, not a name of an input"
        raise PydanticCustomError(kind, msg)
    return name


_InputName = Annotated[str, Field(pattern=r"^[\w-][\w .-]*$"), AfterValidator(_no_set_key)]
"""First folder of the ids: one plain name, so that no id leads out of the output."""

_Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class _SceneSet(_Strict):
    bands: Annotated[dict[str, str], Field(min_length=1)] | None = None
    manifest: str | None = None
    columns: _Names | None = None
    id: str | None = None
    stac: str | None = None
    assets: _Names | None = None
    resampling: Resampling = "none"

    @model_validator(mode="before")
    @classmethod
    def _of_one_kind(cls, value: Any) -> Any:
        kinds = [kind for kind in _SET_KEYS if isinstance(value, dict) and kind in value]
        if not kinds:
            error, msg = "no_set", "no scene set"
            raise PydanticCustomError(error, msg)
        if len(kinds) > 1:
            msg = (
                f"scenes of several files come by `bands`, `manifest` or `stac`, and inputs cannot be named "
                f"so; found {' and '.join(kinds)}"
            )
            raise ValueError(msg)
        known = _SET_KEYS[kinds[0]]
        unknown = [key for key in value if key not in known]
        if unknown:
            msg = (
                f"{unknown[0]!r} is no key of scenes by {kinds[0]}."
                f"{_suggestion(str(unknown[0]), sorted(known))}"
            )
            raise ValueError(msg)
        if value.get("resampling", "none") not in get_args(Resampling):
            msg = f"resampling is one of {', '.join(get_args(Resampling))}; found {value['resampling']!r}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _complete(self) -> "_SceneSet":
        for kind, needed in (("manifest", "columns"), ("stac", "assets")):
            if getattr(self, kind) is not None and not getattr(self, needed):
                msg = f"{kind}: say which files make a scene, as in `{needed}: [red, nir]`"
                raise ValueError(msg)
        for name, pattern in (self.bands or {}).items():
            if "{scene}" not in pattern:
                msg = f"bands: {name}: {pattern} has no {{scene}}, which names the scene in every pattern"
                raise ValueError(msg)
            if other := re.search(r"\{(?!scene\})[^}/]*\}?", pattern):
                msg = f"bands: {name}: {pattern} has {other[0]}; only {{scene}} can stand in braces"
                raise ValueError(msg)
        return self


_Input = str | _SceneSet


class _Area(_Strict):
    file: str = Field(min_length=1)
    layer: str | None = None


class _Model(_Strict):
    path: str = Field(min_length=1)
    layout: Literal["NCHW", "NHWC"] | None = None
    output: Literal["logits", "probabilities", "sigmoid", "classes"] | None = None
    threshold: Number | None = Field(default=None, gt=0, lt=1)
    size_divisor: int | None = Field(default=None, ge=1)
    key_file: str | None = None


class _Gate(_Strict):
    equal_pixels: Number = Field(default=0.999, ge=0, le=1)
    iou: Number = Field(default=0.99, ge=0, le=1)
    tiles: int = Field(default=8, ge=1, le=1000)
    seconds: Number = Field(default=3.0, gt=0)


class _JobFile(_Strict):
    inputs: (
        _Input
        | Annotated[list[_Input], Field(min_length=1)]
        | Annotated[dict[_InputName, _Input], Field(min_length=1)]
    )
    model: Annotated[str, Field(min_length=1)] | _Model
    output: str
    bands: list[int] | None = None
    tile_size: int | None = Field(default=None, ge=8, le=8192)
    halo: int = Field(default=64, ge=0)
    scale: Literal["transforms", "metadata"] | _Divide | _Stretch = "transforms"
    normalize: Literal["model", "none"] | _Normalize = "model"
    nodata: Number | Literal["source", "none"] = "source"
    classes: list[_ClassName | _Class] = []
    num_classes: int | None = Field(default=None, ge=1, le=65535)
    confidence: bool = False
    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
    regions: bool | _Regions = True
    engine: EngineName | Literal["auto"] | None = None
    precision: Precision | Literal["auto"] | None = None
    bake: bool = True
    gate: _Gate = _Gate()
    device: Literal["auto", "cpu", "gpu"] = "auto"
    executor: Literal["ray", "inline"] = "ray"
    ray_address: str | None = None
    workers: int | None = Field(default=None, ge=1)
    gpus_per_worker: Number = Field(default=1.0, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    shard_tiles: int | None = Field(default=None, ge=1)
    max_in_flight: int | str | None = None
    lease_timeout: Number = Field(default=600.0, gt=0)
    deadline: str | None = None
    stop_after: int = Field(default=10, ge=2)
    allow_empty: bool = False
    storage: dict[Literal["s3", "gs", "az", "http"], dict[str, Any]] = {}
    aoi: Annotated[str, Field(min_length=1)] | _Area | None = None
    on_bad_block: Literal["quarantine", "nodata"] = "quarantine"
    min_age: Number | str = 0.0

    @field_validator("min_age")
    @classmethod
    def _min_age_is_duration(cls, age: float | str) -> float:
        seconds = _duration(age) if isinstance(age, str) else age
        if seconds is None or not 0 <= seconds < float("inf"):
            msg = f"{age!r} is no duration such as 90s, 10m or 2h, nor a number of seconds"
            raise ValueError(msg)
        return seconds

    @field_validator("deadline")
    @classmethod
    def _deadline_is_time(cls, deadline: str | None) -> str | None:
        if deadline is not None:
            seconds_until(deadline, dt.datetime.now())
        return deadline

    @field_validator("bands")
    @classmethod
    def _bands_from_one(cls, bands: list[int] | None) -> list[int] | None:
        if bands is not None and (not bands or min(bands) < 1):
            msg = "bands are numbered from 1; give at least one, such as [1, 2, 3]"
            raise ValueError(msg)
        return bands

    @model_validator(mode="after")
    def _halo_leaves_core(self) -> "_JobFile":
        if self.tile_size is not None and self.tile_size <= 2 * self.halo:
            raise ValueError(no_core(self.tile_size, self.halo))
        return self


def no_core(tile_size: int, halo: int) -> str:
    return (
        f"halo {halo} leaves no core in tile_size {tile_size} (need tile_size > 2 * halo); "
        f"raise tile_size or lower halo"
    )


class _UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of equal keys without a word; here they are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_job(path: Path, overrides: Sequence[str] = (), today: dt.date | None = None) -> JobConfig:
    """Read a job file.

    Args:
        path: the YAML file; its relative paths are relative to its folder.
        overrides: `key=value` words of --set; values are YAML, dots descend (`scale.divide=10000`).
        today: what `${DATE}` stands for; the local date unless given.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is wrong.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as e:
        msg = f"cannot read the job file {path}: {e.strerror}"
        raise ConfigError(msg) from e
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as e:
        msg = f"{path} is not YAML: {e}"
        raise ConfigError(msg) from e
    if not isinstance(loaded, dict):
        msg = (
            f"{path} must hold keys and values (inputs: ..., model: ..., output: ...), found {_kind(loaded)}"
        )
        raise ConfigError(msg)
    for override in overrides:
        _apply_override(loaded, override)
    variables = {**os.environ, "DATE": (today or dt.date.today()).isoformat()}
    expanded = _expand(loaded, variables, str(path))
    try:
        return _to_config(_JobFile.model_validate(expanded), path)
    except ValidationError as e:
        raise ConfigError(_explain(e, expanded, path)) from e


def seconds_until(deadline: str, now: dt.datetime) -> float:
    """Seconds from `now` to the next `HH:MM`, or those of a duration such as `90m`, `7.5h`, `30s`.

    >>> seconds_until("06:00", dt.datetime(2026, 3, 1, 22, 30))
    27000.0
    >>> seconds_until("1.5h", dt.datetime(2026, 3, 1))
    5400.0
    """
    if match := re.fullmatch(r"(\d{1,2}):(\d{2})", deadline):
        hour, minute = int(match[1]), int(match[2])
        if hour < 24 and minute < 60:
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            then += dt.timedelta(days=then <= now)
            # Through timestamps: in the nights when clocks are changed an hour less or more lies between.
            return then.timestamp() - now.timestamp()
    elif (seconds := _duration(deadline)) is not None:
        return seconds
    msg = f"deadline {deadline!r} is neither a time of day such as '06:00' nor a duration such as 90m or 7.5h"
    raise ValueError(msg)


def _duration(text: str) -> float | None:
    """Seconds of `90s`, `10m` or `1.5h`; None where the text is no such."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        msg = f"--set wants key=value, found {override!r}"
        raise ConfigError(msg)
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        child = tree.get(parent)
        if not isinstance(child, dict):
            child = tree[parent] = {}
        tree = child
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as e:
        msg = f"--set {override}: the value is not YAML: {e}"
        raise ConfigError(msg) from e


def _expand(value: Any, variables: Mapping[str, str], path: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, variables, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, variables, path) for item in value]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in variables:
            msg = f"{path}: ${{{name}}} is not set in the environment; export {name}=... or write the value"
            raise ConfigError(msg)
        return variables[name]

    return re.sub(r"\$\{(\w+)\}", substitute, value)


def _to_config(job: _JobFile, path: Path) -> JobConfig:
    folder = path.resolve().parent
    if isinstance(job.inputs, str | _SceneSet):
        inputs: list[tuple[str | None, _Input]] = [(None, job.inputs)]
    elif isinstance(job.inputs, list):
        inputs = [(None, item) for item in job.inputs]
    else:
        inputs = list(job.inputs.items())
    left_out = {"inputs", "model", "classes", "scale", "normalize", "regions", "max_in_flight", "aoi", "gate"}
    values = job.model_dump(exclude=left_out)
    values |= {
        "path": str(path),
        "inputs": tuple((name, _input(given, folder)) for name, given in inputs),
        "model": _model_options(job.model, folder),
        "gate": Gate(**job.gate.model_dump()),
        "output": _absolute(job.output, folder).rstrip("/"),
        "bands": None if job.bands is None else tuple(job.bands),
        "scale": _scale(job.scale),
        "normalize": job.normalize
        if isinstance(job.normalize, str)
        else Normalize(mean=tuple(job.normalize.mean), std=tuple(job.normalize.std)),
        "regions": _region_settings(job.regions),
        "classes": tuple(_class_info(item, index) for index, item in enumerate(job.classes)),
        "max_in_flight": _bytes(job.max_in_flight, path),
        "aoi": _area_file(job.aoi, folder),
    }
    return JobConfig(**values)


def _absolute(uri: str, folder: Path) -> str:
    """A path made absolute against the job file's folder; URIs with a protocol stay as they are."""
    if "://" in uri:
        return uri.removeprefix("file://")
    try:
        return os.path.normpath(folder / Path(uri).expanduser())
    except RuntimeError as e:
        msg = f"{uri}: there is no such home folder for this user; write the path without ~"
        raise ConfigError(msg) from e


def _input(given: _Input, folder: Path) -> str | SceneSet:
    if isinstance(given, str):
        return _absolute(given, folder)
    if given.bands is not None:
        patterns = tuple((name, _absolute(pattern, folder)) for name, pattern in given.bands.items())
        return SceneSet(kind="bands", patterns=patterns, resampling=given.resampling)
    return SceneSet(
        kind="stac" if given.stac is not None else "manifest",
        path=_absolute(given.stac or given.manifest or "", folder),
        columns=tuple(given.assets or given.columns or ()),
        id_column=given.id,
        resampling=given.resampling,
    )


def _model_options(given: str | _Model, folder: Path) -> ModelOptions:
    model = given if isinstance(given, _Model) else _Model(path=given)
    key_file = None if model.key_file is None else _absolute(model.key_file, folder)
    values = model.model_dump() | {"path": _absolute(model.path, folder), "key_file": key_file}
    return ModelOptions(**values)


def _area_file(aoi: str | _Area | None, folder: Path) -> AreaFile | None:
    if aoi is None:
        return None
    area = aoi if isinstance(aoi, _Area) else _Area(file=aoi)
    return AreaFile(uri=_absolute(area.file, folder), layer=area.layer)


def _scale(scale: str | _Divide | _Stretch) -> Scale:
    if isinstance(scale, _Divide):
        return Scale(kind="divide", low=(0.0,), high=(scale.divide,))
    if isinstance(scale, _Stretch):
        low, high = (tuple(v) if isinstance(v, list) else (v,) for v in scale.stretch)
        return Scale(kind="stretch", low=low, high=high)
    if scale == "metadata":
        return Scale(kind="metadata", low=(0.0,), high=(1.0,))
    return Scale(kind="transforms", low=(0.0,), high=(255.0,))


def _region_settings(regions: bool | _Regions) -> RegionOptions | None:
    if regions is False:
        return None
    given = _Regions() if regions is True else regions
    values = given.model_dump()
    return RegionOptions(**values | {"classes": None if given.classes is None else tuple(given.classes)})


def _class_info(item: str | _Class, index: int) -> ClassInfo:
    color = PALETTE[index % len(PALETTE)]
    if isinstance(item, str):
        return ClassInfo(name=item, color=color)
    return ClassInfo(name=item.name, color=item.color or color)


def _bytes(value: int | str | None, path: Path) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMG])i?B)?", str(value).strip())
    if not match or float(match[1]) == 0:
        msg = f"{path}: max_in_flight: {value!r} is not a size; write bytes or '512MiB', '2GiB'"
        raise ConfigError(msg)
    return int(float(match[1]) * 1024 ** (" KMG".index(match[2] or " ")))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _explain(error: ValidationError, found: Mapping[str, Any], path: Path) -> str:
    """One line per wrong key: where, what, remedy."""
    lines: dict[str, str] = {}
    for item in error.errors():
        # pydantic appends the names of a union's branches to the location; the user wrote only the key.
        where = str(item["loc"][0]) if item["loc"] else ""
        inside = where in _MAPPINGS and len(item["loc"]) > (1 if where == "gate" else 2)
        if item["type"] == "value_error":
            text = item["msg"].removeprefix("Value error, ")
        elif item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            text = "unknown key." + _suggestion(where, list(_JobFile.model_fields))
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            text = f"missing; a job file needs `{where}: ...`"
        elif inside:
            text = _inside(item, list(_MAPPINGS[where].model_fields))
        elif where in _EXPECTED:
            text = f"expected {_EXPECTED[where]}; found {found[where]!r}"
        else:
            text = f"{item['msg'][0].lower()}{item['msg'][1:]}; found {item['input']!r}"
        if where not in lines or inside or item["type"] == "value_error":
            lines[where] = f"{path}: {where}: {text}" if where else f"{path}: {text}"
    return "\n".join(lines.values())


_MAPPINGS: dict[str, type[BaseModel]] = {"regions": _Regions, "model": _Model, "gate": _Gate}
"""Keys that may hold keys of their own."""


def _inside(item: Any, known: Sequence[str]) -> str:
    """What is wrong with a key below one of `_MAPPINGS`; a union's branch stands before it."""
    key = str(item["loc"][-1])
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key.{_suggestion(key, known)}"
    return f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}; found {item['input']!r}"


_EXPECTED = {
    "inputs": (
        "a path, folder, glob or manifest, {bands: {red: '.../{scene}_B4.tif'}}, "
        "{manifest: ..., columns: [...]} or {stac: ..., assets: [...]}, "
        "a list of such, or a mapping of names to such"
    ),
    "model": "a folder, an ONNX file, or {path: ..., layout: NHWC, output: sigmoid, threshold: 0.3}",
    "gate": "{equal_pixels: 0.999, iou: 0.99, tiles: 8, seconds: 3}",
    "engine": "auto, " + ", ".join(get_args(EngineName)),
    "precision": "auto, " + ", ".join(get_args(Precision)),
    "scale": "transforms, metadata, {divide: 10000} or {stretch: [low, high]}",
    "normalize": "model, none or {mean: [...], std: [...]}",
    "nodata": "source, none or a number",
    "classes": "a list of names or of {name: ..., color: '#rrggbb'}",
    "regions": "true, false or {min_area: 20, simplify: 1, classes: [water], max_vertices: 1000000}",
    "bands": "a list of band numbers such as [1, 2, 3]",
    "max_in_flight": "a number of bytes, or a size such as 512MiB",
    "storage": "options by protocol (s3, gs, az, http) such as {s3: {endpoint: ..., anonymous: true}}",
    "aoi": "a vector file such as areas/county.gpkg, or {file: ..., layer: ...}",
    "min_age": "a duration such as 90s, 10m or 2h, or a number of seconds",
    "deadline": "a time of day in quotes such as '06:00', or a duration such as 90m or 7.5h",
}
"""What a key takes, where pydantic would list every branch of a union."""


def _suggestion(key: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(key, known, n=1)
    if matches:
        return f" Perhaps you meant {matches[0]!r}?"
    return f" Known keys: {', '.join(known)}"
