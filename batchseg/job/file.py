"""The job file: YAML to frozen, checked values."""

import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import ValidationError

from batchseg.errors import ConfigError
from batchseg.job import schema_parts
from batchseg.job.masks import mask_flags
from batchseg.job.messages import explain
from batchseg.job.overrides import absolute, apply, locate
from batchseg.job.resolution import Resolution
from batchseg.job.schema import JobFile
from batchseg.job.schema_photographs import OF_PHOTOGRAPHS
from batchseg.job.schema_values import GoodImages
from batchseg.job.schema_values import Values as Numbers
from batchseg.job.settings import (
    AreaFile,
    Gate,
    Interest,
    JobConfig,
    Photographs,
    RegionOptions,
    Rule,
    Scale,
    SceneSet,
    Truth,
    Values,
)
from batchseg.job.variables import as_written, fill_in, names_in, plain
from batchseg.models.package import PALETTE, ClassInfo, ModelOptions, Normalize
from batchseg.system.machine import has_gpu_nodes
from batchseg.system.yaml_text import YAML_BYTES, TooLargeError, read_yaml


def load_job(
    path: Path,
    overrides: Sequence[str] = (),
    today: dt.date | None = None,
    *,
    keys: Mapping[str, Any] = MappingProxyType({}),
) -> JobConfig:
    """Read a job file.

    Args:
        path: the YAML file; its relative paths are relative to its folder.
        overrides: `key=value` words of --set; values are YAML, dots descend (`scale.divide=10000`), paths are
            relative to the current folder.
        today: what `${DATE}` stands for; the local date unless given.
        keys: values that replace those of the file, and of `overrides`, as they are.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is wrong.
    """
    try:
        loaded = read_yaml(path)
    except OSError as e:
        msg = f"cannot read the job file {path}: {e.strerror}"
        raise ConfigError(msg) from e
    except TooLargeError as e:
        msg = f"{path} is larger than {YAML_BYTES:,} bytes; a job is short: list inputs in a manifest"
        raise ConfigError(msg) from e
    except ValueError as e:
        msg = f"{path} is not YAML: {e}"
        raise ConfigError(msg) from None  # the parser's own words quote secrets
    if not isinstance(loaded, dict):
        msg = (
            f"{path} must hold keys and values (inputs: ..., model: ..., output: ...), found {_kind(loaded)}"
        )
        raise ConfigError(msg)
    said = [apply(loaded, override) for override in overrides]
    variables = {**os.environ, "DATE": (today or dt.date.today()).isoformat()}
    filled = fill_in(loaded, variables, str(path))
    locate(filled, said, Path.cwd())
    config = make_job(filled | dict(keys), name=str(path), folder=path.resolve().parent)
    used = names_in(loaded) - {"DATE"}
    return replace(config, variables={name: variables[name] for name in sorted(used)})


def make_job(keys: Mapping[str, Any], *, name: str, folder: Path) -> JobConfig:
    """Check the keys of a job.

    Args:
        keys: as in a job file, and of the types that YAML gives.
        name: of the job, for messages.
        folder: absolute; relative paths are relative to it.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    _check_keys(keys, name, ())
    try:
        return _to_config(JobFile.model_validate(keys), name, folder)
    except ValidationError as e:
        raise ConfigError(*explain(e, keys, name)) from None  # pydantic's own words quote secrets
    except ConfigError as e:
        raise ConfigError(*(as_written(line, keys) for line in e.lines)) from e.__cause__


def _check_keys(keys: Mapping[Any, Any], name: str, above: tuple[str, ...]) -> None:
    """Raises ConfigError where a key is no text: YAML takes `51,5` in braces for two entries."""
    before: Any = None
    for key, value in keys.items():
        if not isinstance(key, str):
            where = ": ".join((name, *above))
            if value is None and isinstance(key, int) and isinstance(before, int):
                hint = f"a comma begins another entry: if {before},{key} is a number, write {before}.{key}"
            else:
                hint = "keys are names; if this is one, put it in quotes"
            msg = f"{where}: found the key {key!r}: {hint}"
            raise ConfigError(msg)
        if key != "storage":  # what stands there may be a secret
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Mapping):
                    _check_keys(item, name, (*above, key))
        before = value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _to_config(job: JobFile, name: str, folder: Path) -> JobConfig:
    if isinstance(job.inputs, str | schema_parts.SceneSet):
        inputs: list[tuple[str | None, schema_parts.Input]] = [(None, job.inputs)]
    elif isinstance(job.inputs, list):
        inputs = [(None, item) for item in job.inputs]
    else:
        inputs = list(job.inputs.items())
    left_out = {"inputs", "model", "classes", "scale", "normalize", "regions", "max_in_flight", "aoi", "gate"}
    numbers = None if job.result == "classes" else _values(job.values or Numbers(), folder)
    values = job.model_dump(exclude={*left_out, "result", "values", *OF_PHOTOGRAPHS})
    values |= {
        "path": name,
        "storage": plain(job.storage),
        "inputs": tuple((name, _input(given, folder)) for name, given in inputs),
        "model": _model_options(job.model, folder, gives_values=numbers is not None),
        "values": numbers,
        "gate": _gate(job.gate, folder),
        "tile_size": None if job.tile_size == "auto" else job.tile_size,
        "halo": None if job.halo == "auto" else job.halo,
        "probabilities": tuple(job.probabilities)
        if isinstance(job.probabilities, list)
        else job.probabilities,
        "executor": _executor(job),
        "output": absolute(job.output, folder).rstrip("/"),
        "bands": None if job.bands is None else tuple(job.bands),
        "scale": _scale(job.scale),
        "normalize": job.normalize
        if isinstance(job.normalize, str)
        else Normalize(mean=tuple(job.normalize.mean), std=tuple(job.normalize.std)),
        "regions": _region_settings(job.regions if numbers is None or numbers.divides else False),
        "classes": tuple(_class_info(item, index) for index, item in enumerate(job.classes)),
        "merge": tuple((name, tuple(members)) for name, members in job.merge.items()),
        "sieve": job.sieve or 0,
        "max_in_flight": _bytes(job.max_in_flight, "max_in_flight", name),
        "resolution": job.resolution
        if job.resolution in (None, "any", "model")
        else Resolution.of(job.resolution),
        "aoi": _area_file(job.aoi, folder),
        "photographs": _photographs(job, name),
    }
    config = JobConfig(**values)
    _check_rules(config)
    return config


def _gate(gate: schema_parts.Gate, folder: Path) -> Gate:
    truth = None
    if gate.truth is not None:
        given = gate.truth
        truth = Truth(images=absolute(given.images, folder), labels=absolute(given.labels, folder))
    return Gate(**gate.model_dump(exclude={"truth"}), truth=truth)


def _executor(job: JobFile) -> Literal["ray", "processes", "inline"]:
    """What `auto` is on this machine."""
    if job.executor != "auto":
        return job.executor
    may_find_gpu = job.device == "gpu" or (job.device == "auto" and has_gpu_nodes())
    return "ray" if job.ray_address is not None or may_find_gpu else "processes"


def _input(given: schema_parts.Input, folder: Path) -> str | SceneSet:
    if isinstance(given, str):
        return absolute(given, folder)
    mask = None if given.mask is None else mask_flags(given.kind, given.mask)
    if given.bands is not None:
        patterns = tuple((name, absolute(pattern, folder)) for name, pattern in given.bands.items())
        mask = mask and replace(mask, file=absolute(mask.file, folder))
        return SceneSet(kind="bands", patterns=patterns, resampling=given.resampling, mask=mask)
    path = given.landsat or given.sentinel2 or given.stac or given.manifest or ""
    return SceneSet(
        kind=given.kind,
        path=absolute(path, folder),
        columns=tuple(given.assets or given.columns or ()),
        id_column=given.id,
        resampling=given.resampling,
        mask=mask,
    )


def _model_options(given: str | schema_parts.Model, folder: Path, *, gives_values: bool) -> ModelOptions:
    model = given if isinstance(given, schema_parts.Model) else schema_parts.Model(path=given)
    key_file = None if model.key_file is None else absolute(model.key_file, folder)
    values = model.model_dump() | {"path": absolute(model.path, folder), "key_file": key_file}
    return ModelOptions(**values | ({"output": "values"} if gives_values else {}))


def _values(given: Numbers, folder: Path) -> Values:
    limit, measured = given.threshold, None
    if isinstance(limit, GoodImages):
        limit, measured = None, limit
    return Values(
        dtype=given.dtype,
        scale=1.0 if given.scale is None else given.scale,
        offset=given.offset or 0.0,
        threshold=limit,
        percentile=None if measured is None else measured.percentile,
        good=None if measured is None else absolute(measured.of, folder),
    )


def _area_file(aoi: str | schema_parts.Area | None, folder: Path) -> AreaFile | None:
    if aoi is None:
        return None
    area = aoi if isinstance(aoi, schema_parts.Area) else schema_parts.Area(file=aoi)
    return AreaFile(uri=absolute(area.file, folder), layer=area.layer)


def _scale(scale: str | schema_parts.Divide | schema_parts.Stretch) -> Scale:
    if isinstance(scale, schema_parts.Divide):
        return Scale(kind="divide", low=(0.0,), high=(scale.divide,))
    if isinstance(scale, schema_parts.Stretch):
        low, high = (tuple(v) if isinstance(v, list) else (v,) for v in scale.stretch)
        return Scale(kind="stretch", low=low, high=high)
    if scale == "metadata":
        return Scale(kind="metadata", low=(0.0,), high=(1.0,))
    return Scale(kind="transforms", low=(0.0,), high=(255.0,))


def _region_settings(regions: bool | schema_parts.RegionKeys) -> RegionOptions | None:
    if regions is False:
        return None
    given = schema_parts.RegionKeys() if regions is True else regions
    values = given.model_dump()
    return RegionOptions(**values | {"classes": None if given.classes is None else tuple(given.classes)})


def _photographs(job: JobFile, name: str) -> Photographs | None:
    if not job.of_photographs:
        return None
    given = {key: getattr(job, key) for key in OF_PHOTOGRAPHS if getattr(job, key) is not None}
    if (memory := _bytes(job.max_photo_memory, "max_photo_memory", name)) is not None:
        given["max_photo_memory"] = memory
    return Photographs(**given | {"rules": tuple(_rule(rule) for rule in job.rules or ())})


def _rule(given: schema_parts.Rule) -> Rule:
    plain = {"then", "min_area", "min_area_mm2", "count", "min_confidence", "min_valid"}
    values = given.model_dump(include=plain)
    part = given.region_of_interest
    interest = None if part is None else Interest(corners_xy=part.corners_xy, unit=part.unit)
    return Rule(name=given.title, classes=given.class_list, interest=interest, **values)


def _check_rules(config: JobConfig) -> None:
    """Raises ConfigError where a rule asks for what the job does not make."""
    photographs = config.photographs or Photographs()
    for rule in photographs.rules:
        wrong = _unanswerable(rule, config.regions, config.confidence, photographs.pixel_size)
        if wrong is not None:
            msg = f"{config.path}: rules: {rule.name}: {wrong}"
            raise ConfigError(msg)


def _unanswerable(
    rule: Rule, regions: RegionOptions | None, confidence: bool, pixel_size: float | None
) -> str | None:
    if regions is None:
        return "rules look at regions, and the job says regions: false; leave that out"
    if rule.min_area_mm2 and pixel_size is None:
        return "min_area_mm2 needs the job's `pixel_size`, in millimetres per pixel"
    if rule.min_confidence and not confidence:
        return "min_confidence needs confidence: true"
    if rule.interest is not None and regions.simplify:
        return "region_of_interest needs exact outlines; leave out regions: simplify"
    least = rule.least_px(pixel_size)
    if least and regions.min_area > max(least, 1):
        return (
            f"asks for regions from {least:.12g} px, and the job keeps those from regions: min_area: "
            f"{regions.min_area}; lower that"
        )
    return None


def _class_info(item: str | schema_parts.Class, index: int) -> ClassInfo:
    color = PALETTE[index % len(PALETTE)]
    if isinstance(item, str):
        return ClassInfo(name=item, color=color)
    return ClassInfo(name=item.name, color=item.color or color)


def _bytes(value: int | str | None, key: str, job: str) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMG])i?B)?", str(value).strip())
    if not match or float(match[1]) == 0:
        msg = f"{job}: {key}: {value!r} is not a size; write bytes or '512MiB', '2GiB'"
        raise ConfigError(msg)
    return int(float(match[1]) * 1024 ** (" KMG".index(match[2] or " ")))
