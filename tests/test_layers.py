import ast
from pathlib import Path

import pytest

import batchseg

ORDER = [
    "errors",
    "disks",
    "grid",
    "chains",
    "corners",
    "rings",
    "strands",
    "trace",
    "scene",
    "geodesy",
    "spans",
    "events",
    "bottleneck",
    "settings",
    "digests",
    "hiding",
    "photos",
    "photos.tables",
    "models",
    "models.package",
    "models.keys",
    "models.encryption",
    "schema",
    "jobfile",
    "wording",
    "config",
    "isolate",
    "machine",
    "scratch",
    "graphs",
    "graphs.cache",
    "aside",
    "patience",
    "s3session",
    "storage",
    "walking",
    "publishing",
    "locks",
    "runlog",
    "begin",
    "metadata",
    "manifests",
    "photos.manifest",
    "models.transforms",
    "models.deploy",
    "models.paddlefile",
    "models.onnxfile",
    "models.reading",
    "models.exporting",
    "models.geometry",
    "models.describe",
    "engines",
    "engines.paddle_gpu",
    "engines.paddle",
    "engines.paddle_tensorrt",
    "graphs.onnxgraph",
    "engines.onnxruntime",
    "engines.openvino",
    "graphs.bakedlayer",
    "graphs.baking",
    "graphs.shapes",
    "graphs.conversion",
    "graphs.derived",
    "aoi",
    "photos.rules",
    "recipe",
    "resolve",
    "prepare",
    "predict",
    "probe",
    "facts",
    "records",
    "columns",
    "ledger",
    "photos.triage",
    "plan",
    "formats",
    "sidecars",
    "scenesets",
    "inputs",
    "photos.listing",
    "opener",
    "regrid",
    "stack",
    "blocks",
    "read",
    "photos.picture",
    "photos.jpeg",
    "photos.pillow",
    "photos.tiff",
    "photos.decode",
    "stitch",
    "photos.fitting",
    "gate",
    "samples",
    "bench",
    "choice",
    "write",
    "overviews",
    "rows",
    "regions",
    "mosaic",
    "census",
    "finish",
    "photos.annotate",
    "photos.group",
    "photos.maskfile",
    "steps",
    "executors",
    "state",
    "items",
    "tables",
    "photos.stored",
    "photos.writing",
    "photos.loading",
    "photos.worker",
    "photos.sift",
    "executors.inline",
    "executors.watched",
    "executors.raytasks",
    "executors.rayhead",
    "executors.rayhosts",
    "executors.rayfleet",
    "executors.rayleases",
    "executors.ray",
    "photos.rejudge",
    "progress",
    "timeline",
    "refusals",
    "agenda",
    "flights",
    "commits",
    "driver",
    "photos.batches",
    "photos.driver",
    "settle",
    "night",
    "photos.copies",
    "photos.revise",
    "photos.run",
    "run",
    "status",
    "verify",
    "upkeep",
    "export",
    "dryrun",
    "photos.dryrun",
    "plantext",
    "graphs.rebake",
    "modelcli",
    "photos.results",
    "photos.period",
    "photos.summary",
    "photos.lettering",
    "photos.outlines",
    "photos.sheet",
    "photos.summarytext",
    "photos.coco",
    "photocli",
    "terminal",
    "cli",
]
"""From left to right; the package itself holds the version, and __main__ only starts cli."""

PACKAGE = Path(batchseg.__file__).parent
ENTRY = {"": PACKAGE / "__init__.py", "__main__": PACKAGE / "__main__.py"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SCRIPTS = {"models.paddleseg_export"}
"""Run by path in another interpreter: they import nothing of batchseg, and nothing imports them."""

FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
MODULES = {name: path for name, path in FILES.items() if name not in SCRIPTS}


def imported(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("batchseg.") in FILES and inner.startswith("batchseg.")
                names.add(inner if is_module else node.module)
    return names


def test_every_module_has_its_place():
    assert sorted(MODULES) == sorted([*ORDER, *ENTRY])


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_its_left(name):
    own = {
        n.removeprefix("batchseg").removeprefix(".")
        for n in imported(MODULES[name])
        if n.startswith("batchseg")
    }
    assert own - {""} <= set(ORDER[: ORDER.index(name)])


def test_scripts_stand_alone():
    for name in SCRIPTS:
        assert not any(n.startswith("batchseg") for n in imported(FILES[name]))
        assert not any(f"batchseg.{name}" in imported(path) for path in MODULES.values())


def test_the_package_itself_imports_nothing():
    assert imported(ENTRY[""]) == set()
    assert imported(ENTRY["__main__"]) == {"batchseg.cli"}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        (
            "ray",
            [
                "executors.ray",
                "executors.rayfleet",
                "executors.rayhead",
                "executors.rayhosts",
                "executors.raytasks",
            ],
        ),
        (
            "paddle",
            [
                "engines.paddle",
                "engines.paddle_tensorrt",
                "graphs.bakedlayer",
                "graphs.baking",
                "graphs.shapes",
            ],
        ),
        ("paddle2onnx", ["graphs.conversion"]),
        ("onnx", ["models.onnxfile", "graphs.onnxgraph"]),
        ("cv2", ["models.geometry"]),
        ("simplejpeg", ["photos.jpeg"]),
        (
            "PIL",
            [
                "census",
                "photos.jpeg",
                "photos.pillow",
                "photos.tiff",
                "photos.maskfile",
                "photos.lettering",
                "photos.outlines",
                "photos.sheet",
            ],
        ),
        ("onnxruntime", ["graphs.onnxgraph", "engines.onnxruntime"]),
        ("openvino", ["engines.openvino"]),
        ("cryptography", ["models.encryption"]),
        ("fsspec", ["storage"]),
        ("pydantic", ["config", "jobfile", "schema", "wording"]),
        ("rich", ["photos.summarytext", "progress"]),
    ],
)
def test_a_library_has_one_home(library, homes):
    users = [
        name for name, path in MODULES.items() if library in {n.partition(".")[0] for n in imported(path)}
    ]
    assert sorted(users) == sorted(homes)


def test_only_the_command_line_prints():
    printing = {
        name
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"cli"}
