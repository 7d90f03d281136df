"""What is read from a bucket is data, Ray hears this machine alone, and no credential is left anywhere."""

import ast
from pathlib import Path

import pytest

import batchseg
from faults.context import Context
from faults.secrecy import CASES

PACKAGE = Path(batchseg.__file__).parent

DANGEROUS = ("pickle", "cloudpickle", "joblib", "marshal", "shelve", "dill", "jsonpickle")
ALLOWED = {
    ("api/own_process.py", "pickle"): "an error of this very process, to see whether it can travel",
    ("api/own_process.py", "pickle.loads"): "the same",
    ("driver/executors/processes/predictor.py", "pickle"): "answers to the process that started this one",
    ("predict/calibrate.py", "pickle"): "tiles of trials, in the run's own folder, closed to others",
    ("predict/fleet.py", "pickle"): "what processes of one trial tell each other, in the same folder",
    ("predict/fleet.py", "pickle.loads"): "the same",
    ("predict/crop_tiles.py", "pickle"): "scales of the crops of trials, in the same folder",
    ("predict/crop_tiles.py", "pickle.loads"): "the same",
    ("system/yaml_text.py", "yaml.load"): "with a SafeLoader that refuses equal keys and aliases of aliases",
}


def found_in(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            names |= {m for m in modules if m.split(".")[0] in DANGEROUS}
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            unsafe = called in ("eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load")
            unsafe |= called.endswith(".loads") and called.split(".")[0] in DANGEROUS
            unsafe |= called.endswith("read_pickle") or any(k.arg == "allow_pickle" for k in node.keywords)
            names |= {called} if unsafe else set()
    return names


def test_nothing_that_is_read_can_run():
    found = {
        (str(path.relative_to(PACKAGE)), name) for path in PACKAGE.rglob("*.py") for name in found_in(path)
    }
    assert found == set(ALLOWED)


@pytest.mark.slow
def test_ray_listens_on_loopback_alone(tmp_path, models):
    (tmp_path / "secrecy-scenes").mkdir()
    (tmp_path / "secrecy-scenes" / "models").symlink_to(models)
    trial = CASES["Ray on loopback only"](Context(work=tmp_path), "loopback", 1)
    assert not trial.found


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in CASES if fault != "Ray on loopback only"])
def test_no_credential_is_left_anywhere(tmp_path, fault):
    trial = CASES[fault](Context(work=tmp_path), fault, 1)
    assert trial.kept_promises, str(trial)
