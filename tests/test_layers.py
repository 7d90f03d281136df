"""Who may import whom: pyproject.toml says it ([tool.batchseg.rooms])."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import structure

import batchseg

PACKAGE = structure.read_package(Path(batchseg.__file__).parent)
CONTRACT = structure.read_contract()

SCRIPTS = {"models.paddleseg_script"}
"""Run by path in another interpreter: they import nothing of batchseg, and nothing imports them."""


def test_every_room_has_its_place():
    assert sorted(PACKAGE.rooms) == sorted(CONTRACT)


def test_a_room_imports_only_what_it_may():
    assert structure.forbidden_arrows(PACKAGE, CONTRACT) == []


def test_no_two_files_import_each_other():
    assert structure.circles(PACKAGE.file_arrows(at_once=False)) == []


def test_what_everybody_may_import_imports_nothing():
    assert PACKAGE.own(PACKAGE.modules[structure.FREE].imported) == set()


def test_tracing_knows_nothing_of_the_package():
    """It could be a library of its own: integers in, integers out."""
    for name, module in PACKAGE.modules.items():
        if name.startswith("regions.tracing"):
            assert all(other.startswith("regions.tracing") for other in PACKAGE.own(module.imported)), name


def test_only_the_command_line_calls_the_python_face():
    """The package's own names, and the room that they come from."""
    users = {
        structure.room_of(name)
        for name, module in PACKAGE.modules.items()
        if {"", "api"} & {structure.room_of(other) for other in PACKAGE.own(module.imported)}
    }
    assert users == {"", "api", "cli"}
    assert PACKAGE.own(PACKAGE.modules["__main__"].imported) == {"cli.main"}


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"fsspec", "numpy", "pyarrow", "pydantic", "rasterio", "ray"}
    code = f"import batchseg, sys; print(*sys.modules.keys() & {heavy})"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == ""


def test_scripts_stand_alone():
    for script in SCRIPTS:
        assert PACKAGE.own(PACKAGE.modules[script].imported) == set()
        assert not any(script in PACKAGE.own(module.imported) for module in PACKAGE.modules.values())


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        (
            "paddle",
            [
                "engines.graphs.bake_paddle",
                "engines.graphs.baked_layer",
                "engines.graphs.strides",
                "engines.graphs.temperature",
                "engines.graphs.temperature_layer",
                "engines.graphs.to_onnx",
                "engines.paddle",
                "engines.paddle_tensorrt",
            ],
        ),
        ("paddle2onnx", ["engines.graphs.to_onnx"]),
        (
            "onnx",
            [
                "engines.graphs.bake_onnx",
                "engines.graphs.open_onnx",
                "engines.graphs.temperature",
                "models.onnx_file",
                "models.own_size",
                "models.torch_script",  # which is run where batchseg is not
            ],
        ),
        ("cv2", ["models.resize"]),
        ("simplejpeg", ["pixels.photo.jpeg"]),
        (
            "PIL",
            [
                "output.census",
                "output.photo_mask",
                "pixels.photo.jpeg",
                "pixels.photo.pillow",
                "pixels.photo.tiff",
                "tools.outlines",
                "tools.sheet",
            ],
        ),
        ("onnxruntime", ["engines.graphs.bake_onnx", "engines.onnxruntime"]),
        ("openvino", ["engines.openvino"]),
        ("nncf", ["engines.graphs.quantize"]),
        ("cryptography", ["models.encryption"]),
        ("fsspec", ["system.storage"]),
        ("botocore", ["system.s3_session"]),
        ("pydantic", ["job.file", "job.messages", "job.schema", "job.schema_parts", "job.schema_values"]),
        ("rich", ["api.display", "cli.summary_text"]),
        ("IPython", ["api.display"]),
        ("geopandas", ["api.outputs"]),
    ],
)
def test_a_library_has_one_home(library, homes):
    assert users_of(library) == homes


def test_one_folder_knows_ray():
    assert all(name.startswith("driver.executors.ray.") for name in users_of("ray"))


def users_of(library: str) -> list[str]:
    """Modules that import a library, whatever of it, sorted."""
    return sorted(
        name
        for name, module in PACKAGE.modules.items()
        if name not in SCRIPTS and library in {structure.room_of(imported) for imported in module.imported}
    )


def test_only_the_command_line_prints():
    printing = {
        structure.room_of(name)
        for name, module in PACKAGE.modules.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"cli"}
