import ast
from pathlib import Path

import pytest

import batchseg

ORDER = [
    "system",
    "job",
    "engines",
    "inputs",
    "pixels",
    "pixels.photo",
    "predict",
    "regions",
    "regions.tracing",
    "output",
    "tools",
    "driver",
    "driver.executors",
    "cli",
    "errors",
    "system.disks",
    "pixels.grid",
    "regions.tracing.ragged",
    "regions.tracing.borders",
    "regions.tracing.rings",
    "regions.tracing.strips",
    "regions.tracing.tracer",
    "inputs.source",
    "regions.geodesy",
    "system.timing",
    "driver.events",
    "driver.bottleneck",
    "job.settings",
    "job.digests",
    "system.redact",
    "inputs.tables",
    "models",
    "models.package",
    "models.keys",
    "models.encryption",
    "job.schema_parts",
    "job.schema",
    "job.messages",
    "job.file",
    "system.processes",
    "system.machine",
    "system.temp_folders",
    "engines.graphs",
    "engines.graphs.cache",
    "system.threads",
    "system.retry",
    "system.s3_session",
    "system.storage",
    "system.walk",
    "system.publish",
    "system.output_lock",
    "driver.runlog",
    "driver.begin",
    "inputs.metadata",
    "inputs.manifests",
    "inputs.manifest",
    "models.transforms",
    "models.deploy",
    "models.paddle_file",
    "models.onnx_file",
    "models.reading",
    "models.export_paddleseg",
    "models.resize",
    "cli.describe",
    "engines.base",
    "engines.paddle_gpu",
    "engines.paddle",
    "engines.paddle_tensorrt",
    "engines.graphs.bake_onnx",
    "engines.onnxruntime",
    "engines.openvino",
    "engines.graphs.baked_layer",
    "engines.graphs.bake_paddle",
    "engines.graphs.shapes",
    "engines.graphs.to_onnx",
    "engines.graphs.derive",
    "pixels.area",
    "regions.verdicts",
    "job.recipe",
    "job.resolve",
    "predict.prepare",
    "predict.predictor",
    "predict.probe",
    "predict.facts",
    "output.record",
    "output.columns",
    "output.ledger",
    "driver.photo_triage",
    "driver.plan",
    "inputs.formats",
    "inputs.sidecars",
    "inputs.scene_sets",
    "inputs.listing",
    "inputs.photo_listing",
    "pixels.open",
    "pixels.regrid",
    "pixels.stack",
    "pixels.damaged_blocks",
    "pixels.read",
    "pixels.photo.picture",
    "pixels.photo.jpeg",
    "pixels.photo.pillow",
    "pixels.photo.tiff",
    "pixels.photo.decode",
    "predict.stitch",
    "predict.photo",
    "predict.gate",
    "predict.samples",
    "predict.engine_trials",
    "predict.engine_choice",
    "output.fragments",
    "output.overviews",
    "regions.rows",
    "regions.scene_table",
    "output.cog",
    "output.census",
    "output.scene_mask",
    "regions.photo_table",
    "driver.group",
    "output.photo_mask",
    "driver.scene_worker",
    "driver.tasks",
    "output.state",
    "output.items",
    "output.region_parts",
    "output.stored_mask",
    "output.photo_results",
    "pixels.photo.load",
    "driver.photo_worker",
    "driver.sift",
    "driver.executors.inline",
    "driver.executors.watched",
    "driver.executors.ray_tasks",
    "driver.executors.ray_cluster",
    "driver.executors.ray_hosts",
    "driver.executors.ray_fleet",
    "driver.executors.ray_leases",
    "driver.executors.ray",
    "output.rejudge",
    "driver.progress",
    "driver.profile",
    "driver.refusals",
    "driver.scene_queue",
    "driver.in_flight",
    "driver.commit",
    "driver.scene_loop",
    "driver.photo_queue",
    "driver.photo_loop",
    "driver.prepare",
    "driver.night",
    "driver.copies",
    "driver.revise",
    "driver.photo_run",
    "driver.job",
    "tools.status",
    "tools.verify",
    "tools.maintain",
    "tools.export",
    "driver.dry_run",
    "driver.photo_dry_run",
    "cli.words",
    "predict.bake_package",
    "cli.model",
    "tools.tables",
    "tools.period",
    "tools.summary",
    "tools.lettering",
    "tools.outlines",
    "tools.sheet",
    "cli.summary_text",
    "tools.export_coco",
    "cli.photo",
    "cli.terminal",
    "cli.main",
]
"""From left to right; the package itself holds the version, and __main__ only starts cli."""

PACKAGE = Path(batchseg.__file__).parent
ENTRY = {"": PACKAGE / "__init__.py", "__main__": PACKAGE / "__main__.py"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SCRIPTS = {"models.paddleseg_script"}
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
    assert imported(ENTRY["__main__"]) == {"batchseg.cli.main"}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        (
            "ray",
            [
                "driver.executors.ray",
                "driver.executors.ray_fleet",
                "driver.executors.ray_cluster",
                "driver.executors.ray_hosts",
                "driver.executors.ray_tasks",
            ],
        ),
        (
            "paddle",
            [
                "engines.paddle",
                "engines.paddle_tensorrt",
                "engines.graphs.baked_layer",
                "engines.graphs.bake_paddle",
                "engines.graphs.shapes",
            ],
        ),
        ("paddle2onnx", ["engines.graphs.to_onnx"]),
        ("onnx", ["models.onnx_file", "engines.graphs.bake_onnx"]),
        ("cv2", ["models.resize"]),
        ("simplejpeg", ["pixels.photo.jpeg"]),
        (
            "PIL",
            [
                "output.census",
                "pixels.photo.jpeg",
                "pixels.photo.pillow",
                "pixels.photo.tiff",
                "output.photo_mask",
                "tools.lettering",
                "tools.outlines",
                "tools.sheet",
            ],
        ),
        ("onnxruntime", ["engines.graphs.bake_onnx", "engines.onnxruntime"]),
        ("openvino", ["engines.openvino"]),
        ("cryptography", ["models.encryption"]),
        ("fsspec", ["system.storage"]),
        ("pydantic", ["job.file", "job.schema", "job.schema_parts", "job.messages"]),
        ("rich", ["cli.summary_text", "driver.progress"]),
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
    assert printing == {"cli.main"}
