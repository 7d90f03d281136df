"""YAML that somebody else may have written: its value, or a ValueError, whatever it holds.

PyYAML's safe loader makes plain values alone. What it lets through is refused here: aliases of aliases
("billion laughs") before they are followed, numbers that take minutes, tags that end in other errors.
"""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from batchseg.system.excerpt import excerpt

YAML_BYTES = 2**20

YAML_VALUES = 20_000
"""Values in a text at most, each alias counted as all that it stands for."""

NUMBER_CHARACTERS = 100
"""YAML counts in base 60 as well, and Python shows no number of more than 4300 digits."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"


class TooLargeError(ValueError):
    """A text has more than YAML_BYTES."""


def read_yaml(path: Path) -> Any:
    """The value of a YAML file.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_yaml`.
    """
    with path.open("rb") as file:
        return parse_yaml(file.read(YAML_BYTES + 1))


def parse_yaml(data: bytes | str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is no YAML in UTF-8, gives a key twice, or is larger than a text of settings can be.
            The message says what is wrong where and quotes no value, which may be a secret.
    """
    if len(data) > YAML_BYTES:
        msg = f"it is larger than {YAML_BYTES:,} bytes"
        raise TooLargeError(msg)
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    try:
        return yaml.load(text, Loader=_Bounded)  # noqa: S506  a SafeLoader that refuses more
    except yaml.YAMLError as e:
        raise ValueError(_without_text(e)) from e
    except RecursionError as e:
        msg = "it is nested too deeply"
        raise ValueError(msg) from e
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        # PyYAML checks neither dates nor what stands behind a tag: !!timestamp x, !!bool x, !!int "".
        msg = "it holds a date, a number or a tag that means no value"
        raise ValueError(msg) from e


class _Bounded(yaml.SafeLoader):
    """YAML keeps the last of equal keys without a word; here they are an error."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[int, int] = {}
        """Values below a node, itself included, by the node's id; of those that are whole."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if not alias:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _below(node))
        if id(node) not in self._sizes:
            msg = "an alias contains itself"
            raise _wrong(msg, node)
        if max(self._sizes[id(node)], len(self._sizes)) > YAML_VALUES:
            msg = f"more than {YAML_VALUES:,} values, counting what aliases stand for"
            raise _wrong(msg, node)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag in _NUMBERS and len(node.value) > NUMBER_CHARACTERS:
            msg = f"a number of more than {NUMBER_CHARACTERS} characters"
            raise _wrong(msg, node)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        known: set[Any] = set()
        for key in (self.construct_object(key, deep=True) for key, _ in pairs if key.tag != _MERGE):
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in known:
                msg = f"the key {excerpt(key)} is given twice"
                raise _wrong(msg, node)
            known.add(key)
        return super().construct_mapping(node, deep)


def _wrong(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _below(node: yaml.Node) -> Iterator[yaml.Node]:
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from child if isinstance(child, tuple) else (child,)


def _without_text(error: yaml.YAMLError) -> str:
    """What is wrong where. PyYAML also quotes the line, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    said = (getattr(error, name, None) for name in ("context", "problem"))
    return f"line {mark.line + 1}, column {mark.column + 1}: {', '.join(filter(None, said))}"
