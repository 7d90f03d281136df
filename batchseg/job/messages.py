"""What is wrong with a job file, in lines that name the key and the remedy."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from batchseg.job import schema_parts, schema_values
from batchseg.job.schema import JobFile
from batchseg.job.variables import as_written
from batchseg.models.package import EngineName, Precision


def explain(error: ValidationError, found: Mapping[str, Any], job: str) -> tuple[str, ...]:
    """One line per wrong key of a job, which goes by the name `job`: where, what, remedy."""
    lines: dict[str, str] = {}
    for item in error.errors():
        # pydantic appends the names of a union's branches to the location; the user wrote only the key.
        where = str(item["loc"][0]) if item["loc"] else ""
        if where == "rules" and len(item["loc"]) > 1:
            place, text = _in_rule(item)
            lines.setdefault(place, f"{job}: {place}: {as_written(text, found.get(where))}")
            continue
        inside = where in _MAPPINGS and len(item["loc"]) > (1 if where in ("gate", "values") else 2)
        if item["type"] == "value_error":
            text = as_written(item["msg"].removeprefix("Value error, "), item["input"])
        elif item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            text = "unknown key." + schema_parts.suggestion(where, list(JobFile.model_fields))
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            text = f"missing; a job file needs `{where}: ...`"
        elif inside:
            text = _inside(item, list(_MAPPINGS[where].model_fields))
        elif where == "storage":  # its options may be secrets
            text = f"expected {_EXPECTED[where]}"
        elif where in _EXPECTED:
            text = f"expected {_EXPECTED[where]}; found {found[where]!r}"
        else:
            text = f"{item['msg'][0].lower()}{item['msg'][1:]}; found {item['input']!r}"
        if where not in lines or inside or item["type"] == "value_error":
            lines[where] = f"{job}: {where}: {text}" if where else f"{job}: {text}"
    return tuple(lines.values())


_MAPPINGS: dict[str, type[BaseModel]] = {
    "regions": schema_parts.RegionKeys,
    "model": schema_parts.Model,
    "gate": schema_parts.Gate,
    "values": schema_values.Values,
}
"""Keys that may hold keys of their own."""

_GOOD = tuple(schema_values.GoodImages.model_fields)


def _inside(item: Any, known: Sequence[str]) -> str:
    """What is wrong with a key below one of `_MAPPINGS`; a union's branch stands before it."""
    if item["loc"][:2] == ("gate", "truth"):
        return _in_truth(item)
    if item["loc"][:2] == ("values", "threshold") and item["loc"][-1] not in _GOOD:
        return (
            f"threshold: expected a number, or {{percentile: 99, of: archive/good}}; found {item['input']!r}"
        )
    key = str(item["loc"][-1])
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key.{schema_parts.suggestion(key, known)}"
    return f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}; found {item['input']!r}"


def _in_truth(item: Any) -> str:
    """What is wrong with `gate: truth:`, or with a key of it."""
    keys = item["loc"][2:]
    if not keys:
        return f"truth: expected {_TRUTH}; found {item['input']!r}"
    place = f"truth: {keys[0]}"
    if item["type"] == "extra_forbidden":
        return (
            f"{place}: unknown key.{schema_parts.suggestion(keys[0], list(schema_parts.Truth.model_fields))}"
        )
    if item["type"] == "missing":
        return f"{place}: missing; expected {_TRUTH}"
    return f"{place}: expected a folder, a glob or a manifest; found {item['input']!r}"


_TRUTH = "{images: held-out/images, labels: held-out/labels}"


def _in_rule(item: Any) -> tuple[str, str]:
    """Which key of which rule is wrong, and how."""
    number, *keys = item["loc"][1:]
    keys = keys[: 2 if keys[:1] == ["region_of_interest"] else 1]  # then come branches of unions
    place = ": ".join(["rules", f"number {number + 1}", *keys])
    if item["type"] == "value_error":
        return place, item["msg"].removeprefix("Value error, region_of_interest: ").removeprefix(
            "Value error, "
        )
    if item["type"] == "extra_forbidden":
        of = schema_parts.Rule if len(keys) == 1 else schema_parts.Interest
        known = [field.alias or name for name, field in of.model_fields.items()]
        return place, f"unknown key.{schema_parts.suggestion(keys[-1], known)}"
    if not keys:
        return place, f"expected {_RULE}; found {item['input']!r}"
    if keys[-1] in _EXPECTED_IN_RULE:
        return place, f"expected {_EXPECTED_IN_RULE[keys[-1]]}; found {item['input']!r}"
    return place, f"{item['msg'][0].lower()}{item['msg'][1:]}; found {item['input']!r}"


_RULE = "{class: crack, min_area: 30, then: FAIL}"

_EXPECTED_IN_RULE = {
    "class": "a class's name, its id, or a list of such",
    "then": "FAIL or REVIEW",
    "region_of_interest": "{box: [x_min, y_min, x_max, y_max]} or {polygon: [[x, y], ...]}",
    "box": "[x_min, y_min, x_max, y_max]",
    "polygon": "three or more corners such as [[10, 20], [400, 20], [400, 300]]",
}

_EXPECTED = {
    "inputs": (
        "a path, folder, glob or manifest, {bands: {red: '.../{scene}_B4.tif'}}, "
        "{manifest: ..., columns: [...]}, {stac: ..., assets: [...]}, {landsat: ..., assets: [...]} or "
        "{sentinel2: ..., assets: [...]}, "
        "a list of such, or a mapping of names to such"
    ),
    "model": "a folder, an ONNX file, or {path: ..., layout: NHWC, output: sigmoid, threshold: 0.3}",
    "gate": "{margin: 0.05, equal_pixels: 0.9999, iou: 0.999, tiles: 8, seconds: 1.5, budget: 20}",
    "values": "{dtype: uint16, scale: 0.01, offset: -50, threshold: 0.5}",
    "tile_size": "auto, or pixels per side such as 512",
    "halo": "auto, or pixels per side such as 64",
    "engine": "auto, " + ", ".join(get_args(EngineName)),
    "precision": "auto, " + ", ".join(get_args(Precision)),
    "overlap": "pixels such as 64, or a share of the tile such as 0.125 (below 0.5)",
    "probabilities": "true, or a list of classes such as [water]",
    "merge": "names of two or more classes for each new one: {built: [building, road]}",
    "scale": "transforms, metadata, {divide: NUMBER} or {stretch: [low, high]}",
    "resolution": "metres such as 0.5, degrees such as '0.00001 deg', model or any",
    "normalize": "model, none or {mean: [...], std: [...]}",
    "nodata": "source, none or a number",
    "classes": "a list of names or of {name: ..., color: '#rrggbb'}",
    "regions": "true, false or {min_area: 20, simplify: 1, classes: [water], max_vertices: 1000000}",
    "rules": f"a list of rules such as {_RULE}",
    "fit": "tile or resize",
    "bands": "a list of band numbers such as [1, 2, 3]",
    "max_in_flight": "a number of bytes, or a size such as 512MiB",
    "max_photo_memory": "a number of bytes, or a size such as 4GiB",
    "storage": "options by protocol (s3, gs, az, http) such as {s3: {endpoint: ..., anonymous: true}}",
    "aoi": "a vector file such as areas/county.gpkg, or {file: ..., layer: ...}",
    "min_age": "a duration such as 90s, 10m or 2h, or a number of seconds",
    "deadline": "a time of day in quotes such as '06:00', or a duration such as 90m or 7.5h",
}
"""What a key takes, where pydantic would list every branch of a union."""
