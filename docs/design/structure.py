"""Measures the structure of the package: its rooms, who imports whom, and what has grown too long.

    python docs/design/structure.py [--package DIR] [--tests DIR] [--markdown | --mermaid]

It reads files and runs none of them, so it measures any checkout, an older one too. A room is a folder of
the package, or a file that lies beside the folders. pyproject.toml says which rooms there are, in which
order, and which of the lower ones each may import ([tool.batchseg.rooms]); tests/test_layers.py holds the
package to that.
"""

import argparse
import ast
import io
import statistics
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

MODULE_LINES = 400
FUNCTION_LINES = 60
CLASS_METHODS = 15
"""Longer ones are named in the table."""

FREE = "errors"
"""Everybody may import it, so it is counted neither as a room nor as the end of an arrow."""

Graph = Mapping[str, set[str]]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        name: Dotted, without the package: "run.executors.ray". A folder's `__init__` has the folder's name,
            the package's own the empty one.
        imported: Absolute names of what it imports, of whatever library. Imports inside functions and those
            for type checkers are counted.
        imported_at_once: Those among them that run when the module is loaded.
    """

    name: str
    path: Path
    text: str
    imported: frozenset[str]
    imported_at_once: frozenset[str]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def comment_lines(self) -> int:
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})

    @property
    def defines(self) -> bool:
        return any(isinstance(node, (*FUNCTIONS, ast.ClassDef)) for node in self.tree.body)

    def long_functions(self) -> Iterator[str]:
        """Functions over `FUNCTION_LINES`, docstring included, as "module.function (lines)"."""
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTIONS):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield f"{self.name}.{node.name} ({lines})"

    def large_classes(self) -> Iterator[str]:
        """Classes with more than `CLASS_METHODS` defs in their body: properties and dunders count."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(inner, FUNCTIONS) for inner in node.body)
                if methods > CLASS_METHODS:
                    yield f"{self.name}.{node.name} ({methods})"


@dataclass(frozen=True)
class Package:
    """The modules of a package by name."""

    name: str
    modules: Mapping[str, Module]

    def own(self, imported: frozenset[str]) -> set[str]:
        """What is the package's own of some absolute names, as names of modules."""
        prefix = f"{self.name}."
        return {name.removeprefix(prefix) for name in imported if name.startswith(prefix)} | {
            "" for name in imported if name == self.name
        }

    @cached_property
    def rooms(self) -> list[str]:
        """Top-level folders, and files beside them but the package's own two and `FREE`."""
        names = {room_of(name) for name in self.modules}
        return sorted(names - {"", "__main__", FREE})

    @cached_property
    def room_arrows(self) -> dict[str, set[str]]:
        """Which rooms each room imports."""
        arrows: dict[str, set[str]] = {room: set() for room in self.rooms}
        for name, module in self.modules.items():
            if room_of(name) in arrows:
                arrows[room_of(name)] |= {room_of(other) for other in self.own(module.imported)}
        return {room: (found & arrows.keys()) - {room} for room, found in arrows.items()}

    def file_arrows(self, *, at_once: bool) -> dict[str, set[str]]:
        """Which files each file imports: at once, or at any time."""
        return {
            name: self.own(module.imported_at_once if at_once else module.imported) - {name}
            for name, module in self.modules.items()
        }


def room_of(name: str) -> str:
    return name.partition(".")[0]


def read_contract(pyproject: Path = REPOSITORY / "pyproject.toml") -> dict[str, list[str]]:
    """Rooms from the ground up, each with the rooms that it may import beside `FREE`.

    Raises:
        ValueError: A room may import one that does not stand below it.
    """
    rooms: dict[str, list[str]] = tomllib.loads(pyproject.read_text())["tool"]["batchseg"]["rooms"]
    order = list(rooms)
    for index, (room, allowed) in enumerate(rooms.items()):
        if above := set(allowed) - set(order[:index]):
            message = (
                f"{room} may import {', '.join(sorted(above))}, which does not stand below it in {pyproject}"
            )
            raise ValueError(message)
    return rooms


def read_package(folder: Path) -> Package:
    """Reads all modules below a folder that is a package."""
    paths = {_module_name(path.relative_to(folder)): path for path in sorted(folder.rglob("*.py"))}
    known = {f"{folder.name}.{name}".rstrip(".") for name in paths}
    modules = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        modules[name] = Module(
            name,
            path,
            text,
            frozenset(_imported(ast.walk(tree), known, path)),
            frozenset(_imported(_run_when_loaded(tree), known, path)),
        )
    return Package(folder.name, modules)


def _module_name(relative: Path) -> str:
    return ".".join(part for part in relative.with_suffix("").parts if part != "__init__")


def _imported(nodes: Iterator[ast.AST], known: set[str], path: Path) -> Iterator[str]:
    """Absolute names of imported modules.

    `from a import b` is an import of a.b where that is a module, and else of a. The folders that Python loads
    on the way to a module are not counted.
    """
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                message = f"{path}:{node.lineno}: relative import"
                raise ValueError(message)
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def _run_when_loaded(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes outside of functions and of `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not isinstance(node, FUNCTIONS) and not for_types:
            yield node
            yield from _run_when_loaded(node)


def circles(graph: Graph) -> list[list[str]]:
    """Sets of nodes that reach each other, of two or more (strongly connected components)."""
    reached = {node: _reached(graph, node) for node in graph}
    found = {
        frozenset(other for other in reached[node] if node in reached.get(other, ()))
        for node in graph
        if node in reached[node]
    }
    return sorted(sorted(circle) for circle in found)


def without_shortcuts(graph: Graph) -> dict[str, set[str]]:
    """A graph without the arrows whose end a longer way reaches too (its transitive reduction).

    Arrows of circles stay: no reduction of a circle is the only one.
    """
    on_circles = {node for circle in circles(graph) for node in circle}
    return {
        node: {
            end
            for end in ends
            if end in on_circles or not any(end in _reached(graph, other) for other in ends - {end})
        }
        for node, ends in graph.items()
    }


def _reached(graph: Graph, start: str) -> set[str]:
    """Nodes at the end of one arrow or more; the start too where it lies on a circle."""
    reached: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += graph.get(node, ())
    return reached


def untested(package: Package, tests: Path) -> list[str]:
    """Modules that no file tests/**/test_<module>.py is named after.

    Where several modules have one name, each needs it in a folder that is named as its own. An `__init__`
    counts, under its folder's name, where it defines a function or a class.
    """
    there = [(path.parent.name, path.stem.removeprefix("test_")) for path in tests.rglob("test_*.py")]
    wanted = {
        name: (name.rpartition(".")[0].rpartition(".")[2], name.rpartition(".")[2])
        for name, module in package.modules.items()
        if name not in {"", "__main__"} and (module.path.name != "__init__.py" or module.defines)
    }
    stems = Counter(stem for _, stem in wanted.values())
    found = Counter(stem for _, stem in there)
    return [
        name
        for name, (folder, stem) in wanted.items()
        if not (found[stem] if stems[stem] == 1 else (folder, stem) in there)
    ]


def arrows_up(package: Package, contract: Mapping[str, list[str]]) -> list[str] | None:
    """Arrows to a room that the contract names later; None where a room is not in the contract."""
    if not set(package.rooms) <= contract.keys():
        return None
    order = list(contract)
    return [
        f"{room} -> {other}"
        for room, others in package.room_arrows.items()
        for other in sorted(others)
        if order.index(other) > order.index(room)
    ]


def forbidden_arrows(package: Package, contract: Mapping[str, list[str]]) -> list[str]:
    """Imports that the contract does not allow, as "module -> module"."""
    return [
        f"{name} -> {other}"
        for name, module in package.modules.items()
        if room_of(name) in contract
        for other in sorted(package.own(module.imported))
        if room_of(other) in contract.keys() - {room_of(name), *contract[room_of(name)]}
    ]


Row = tuple[str, str, list[str]]
"""What is counted, its value, and the names behind it."""


def measure(package: Package, tests: Path, contract: Mapping[str, list[str]]) -> list[Row]:
    """The table's rows."""
    modules = list(package.modules.values())
    lines = sum(module.lines for module in modules)
    comments = sum(module.comment_lines for module in modules)
    up = arrows_up(package, contract)

    def listed(what: str, names: list[str]) -> Row:
        return what, str(len(names)), names

    def circled(what: str, graph: Graph) -> Row:
        return listed(what, [f"{len(circle)}: {' '.join(circle)}" for circle in circles(graph)])

    return [
        ("rooms", str(len(package.rooms)), []),
        ("arrows between rooms", str(sum(map(len, package.room_arrows.values()))), []),
        ("arrows up", "no order", []) if up is None else listed("arrows up", up),
        circled("circles of rooms", package.room_arrows),
        circled("circles of files, by imports at their head", package.file_arrows(at_once=True)),
        circled("circles of files, by all imports", package.file_arrows(at_once=False)),
        listed(
            f"modules over {MODULE_LINES} lines",
            [f"{module.name} ({module.lines})" for module in modules if module.lines > MODULE_LINES],
        ),
        listed(
            f"functions over {FUNCTION_LINES} lines",
            [name for module in modules for name in module.long_functions()],
        ),
        listed(
            f"classes over {CLASS_METHODS} methods",
            [name for module in modules for name in module.large_classes()],
        ),
        listed("modules without a test of their name", untested(package, tests)),
        ("files", str(len(modules)), []),
        ("lines", f"{lines:,}", []),
        ("median lines of a module", f"{statistics.median(module.lines for module in modules):.0f}", []),
        ("lines with a comment", f"{comments / lines:.1%}", []),
    ]


def as_text(rows: list[Row]) -> str:
    width = max(len(what) for what, _, _ in rows)
    parts = []
    for what, value, names in rows:
        parts += [f"{what:{width}}  {value:>8}", *(f"    {name}" for name in names)]
    return "\n".join(parts)


def as_markdown(rows: list[Row]) -> str:
    table = ["| measure | value | which |", "|---|--:|---|"]
    return "\n".join([*table, *(f"| {what} | {value} | {', '.join(names)} |" for what, value, names in rows)])


def as_mermaid(package: Package, contract: Mapping[str, list[str]]) -> str:
    """A flowchart from the uppermost room down, without the arrows that a longer way stands for."""
    order = {room: index for index, room in enumerate(contract)}
    rooms = sorted(package.rooms, key=lambda room: -order.get(room, -1))
    arrows = without_shortcuts(package.room_arrows)
    return "\n".join(
        [
            "flowchart TB",
            *(f"    {room}" for room in rooms),
            *(f"    {room} --> {other}" for room in rooms for other in rooms if other in arrows[room]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=Path, default=REPOSITORY / "batchseg", metavar="DIR")
    parser.add_argument("--tests", type=Path, default=REPOSITORY / "tests", metavar="DIR")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    form.add_argument(
        "--mermaid", action="store_true", help="print the rooms and their arrows as a flowchart"
    )
    arguments = parser.parse_args()
    package = read_package(arguments.package.resolve())
    contract = read_contract()
    if arguments.mermaid:
        print(as_mermaid(package, contract))
    else:
        rows = measure(package, arguments.tests, contract)
        print(as_markdown(rows) if arguments.markdown else as_text(rows))


if __name__ == "__main__":
    main()
