"""Landsat's `*_MTL` files: the same groups of keys, as JSON, as XML or as text."""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from batchseg.system.json_text import parse_json

ROOT = "LANDSAT_METADATA_FILE"

ENDINGS = ("json", "xml", "txt")
"""Of these files, in the order in which they are asked for: the first that is there counts."""

Groups = Mapping[str, Mapping[str, Any]]
"""Values by key by group: numbers may be text."""


def groups_of_json(data: bytes) -> Groups:
    """Raises ValueError, LookupError or TypeError where it is no such file."""
    groups: Groups = parse_json(data)[ROOT]
    return groups


def groups_of_xml(root: ElementTree.Element) -> Groups:
    """Of the document's root element."""
    return {group.tag: {each.tag: (each.text or "").strip() for each in group} for group in root}


def groups_of_text(data: bytes) -> Groups:
    """Of `GROUP = NAME`, `KEY = VALUE` and `END_GROUP = NAME`, a line each.

    Raises:
        ValueError: it holds no such group.

    >>> groups_of_text(b'GROUP = LANDSAT_METADATA_FILE\\n GROUP = A\\n  B_1 = "c"\\n END_GROUP = A\\nEND')
    {'LANDSAT_METADATA_FILE': {}, 'A': {'B_1': 'c'}}
    """
    groups: dict[str, dict[str, str]] = {}
    open_groups: list[str] = []
    for line in data.decode("utf-8", errors="replace").splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if key == "GROUP":
            open_groups.append(value)
            groups.setdefault(value, {})
        elif key == "END_GROUP":
            open_groups = open_groups[:-1]
        elif open_groups:
            groups[open_groups[-1]][key] = value.strip('"')
    if ROOT not in groups:
        msg = f"it has no group {ROOT}"
        raise ValueError(msg)
    return groups
