"""Write the tables of keys in docs/, from the job file's schema.

A page has a pair of markers around each: `<!-- keys of JobFile: made by docs/job_keys.py -->` and
`<!-- end -->`.

Usage:
    python docs/job_keys.py
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from batchseg.job.schema import JobFile
from batchseg.job.schema_parts import Gate, Interest, Model, RegionKeys, Rule, Truth
from batchseg.job.schema_values import GoodImages, Values

DOCS = Path(__file__).resolve().parent
SCHEMAS: dict[str, type[BaseModel]] = {
    schema.__name__: schema
    for schema in (JobFile, Model, RegionKeys, Values, GoodImages, Gate, Truth, Rule, Interest)
}
TABLE = re.compile(r"(<!-- keys of (\w+): made by docs/job_keys.py -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES = {"string": "text", "boolean": "true or false", "array": "list", "object": "mapping", "null": ""}
BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "gt": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "lt": "<",
}


def written(page: str) -> str:
    """A page with its tables made anew."""
    return TABLE.sub(lambda found: found[1] + table(SCHEMAS[found[2]]) + found[3], page)


def table(schema: type[BaseModel]) -> str:
    """A line per key, in the schema's order."""
    document = schema.model_json_schema()
    head = "| key | default | type | meaning |\n|---|---|---|---|\n"
    return head + "".join(_line(name, key, document) for name, key in document["properties"].items())


def _line(name: str, key: dict[str, Any], document: dict[str, Any]) -> str:
    default = "required" if name in document.get("required", ()) else _default(key.get("default"))
    meaning = " ".join(key["description"].split())
    cells = (f"`{name}`", default, _type(key), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(value: Any) -> str:
    """As a job file would say it; of a mapping its own table tells."""
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(key: dict[str, Any]) -> str:
    """What a key takes, in words.

    >>> _type({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto"]}, {"type": "null"}]})
    'integer >= 1, `auto`'
    """
    if "anyOf" in key:
        words = [word for branch in key["anyOf"] if (word := _type(branch))]
        return ", ".join(dict.fromkeys(words))
    if "enum" in key or "const" in key:
        return ", ".join(f"`{value}`" for value in key.get("enum", [key.get("const")]))
    if "$ref" in key:
        return NAMES["object"]
    if key["type"] == "array":
        inner = _type(key["items"]).split(", ")
        return (
            f"list of {' or '.join(inner)}" if {*inner} <= {"integer", "text", "number"} else NAMES["array"]
        )
    bounds = [f"{sign} {key[name]:g}" for name, sign in BOUNDS.items() if name in key]
    return " ".join([NAMES.get(key["type"], key["type"]), ", ".join(bounds)]).strip()


def main() -> None:
    """Rewrite the pages that have such tables."""
    for page in sorted(DOCS.glob("*.md")):
        before = page.read_text()
        if (after := written(before)) != before:
            page.write_text(after)
            print(f"wrote {page.name}")


if __name__ == "__main__":
    main()
