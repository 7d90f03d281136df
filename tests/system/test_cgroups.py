"""Limits of control groups, laid out as containers, pods, batch jobs and units find them."""

from pathlib import Path

import pytest

from batchseg.system.cgroups import cpu_limit, memory_kills, memory_limit

GIB = 2**30


def process(tmp_path: Path, groups: str, *mounts: tuple[str, str, str], **files: str) -> Path:
    """A folder of /proc whose mounts are folders of `tmp_path`; files by place, `__` for a slash."""
    folder = tmp_path / "a process"
    folder.mkdir()
    (folder / "cgroup").write_text(groups)
    lines = [
        f"3{number} 23 0:30 {root} {str(tmp_path / point).replace(' ', chr(92) + '040')} rw - {system}\n"
        for number, (root, point, system) in enumerate(mounts)
    ]
    (folder / "mountinfo").write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" + "".join(lines)
    )
    for name, text in files.items():
        *above, last = name.split("__")
        path = tmp_path.joinpath(*above, last.replace("_", ".", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


V1 = ("rw,cpu,cpuacct", "rw,memory")
ONE = "cgroup cgroup "
TWO = "cgroup2 cgroup2 rw,nsdelegate"


def test_a_container_of_version_2_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    here = process(
        tmp_path, "0::/\n", ("/", "g", TWO), g__cpu_max="150000 100000\n", g__memory_max=f"{2 * GIB}\n"
    )
    cpus, memory = cpu_limit(here), memory_limit(here)
    assert cpus is not None and (cpus.value, cpus.file) == (1.5, tmp_path / "g" / "cpu.max")
    assert memory is not None and memory.value == 2 * GIB


@pytest.mark.parametrize(
    ("inner", "expected"), [("max 100000", 4.0), ("200000 100000", 2.0), ("900000 100000", 4.0)]
)
def test_the_smallest_on_the_way_up_counts(tmp_path: Path, inner: str, expected: float) -> None:
    """As a pod's container, a job's step and a unit's slice lie in one another."""
    here = process(
        tmp_path,
        "0::/job_7/step_0/task\n",
        ("/", "g", TWO),
        g__cpu_max="max 100000\n",
        g__job_7__cpu_max="400000 100000\n",
        g__job_7__step_0__cpu_max=inner,
        g__job_7__memory_max=f"{8 * GIB}",
        g__job_7__memory_high=f"{6 * GIB}",
        g__job_7__step_0__memory_max="max",
        g__other__cpu_max="10000 100000",
    )
    cpus, memory = cpu_limit(here), memory_limit(here)
    assert cpus is not None and cpus.value == expected
    assert memory is not None and memory.value == 6 * GIB


@pytest.mark.parametrize(
    ("root", "path", "place"),
    [
        ("/docker/c0ffee", "/docker/c0ffee", ()),  # as a container without a namespace of groups sees it
        ("/", "/slurm/uid_0/job_7", ("slurm", "uid_0", "job_7")),
        ("/docker/c0ffee", "/../elsewhere", ()),  # of what cannot be seen the mount's root is the nearest
    ],
)
def test_version_1_has_a_tree_for_each_controller(
    tmp_path: Path, root: str, path: str, place: tuple[str, ...]
) -> None:
    groups = f"5:memory:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:/x\n0::/x\n"
    mounts = [(root, "c", ONE + V1[0]), (root, "m", ONE + V1[1]), ("/", "u", "cgroup2 none rw")]
    here = process(tmp_path, groups, *mounts)
    for point, name, text in (
        ("c", "cpu.cfs_quota_us", "50000"),
        ("c", "cpu.cfs_period_us", "100000"),
        ("m", "memory.limit_in_bytes", str(GIB)),
    ):
        folder = tmp_path.joinpath(point, *place)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    cpus, memory = cpu_limit(here), memory_limit(here)
    assert cpus is not None and cpus.value == 0.5
    assert memory is not None and memory.value == GIB


def test_without_a_limit_there_is_none(tmp_path: Path) -> None:
    here = process(
        tmp_path,
        "3:cpu:/\n0::/\n",
        ("/", "c", ONE + "rw,cpu"),
        ("/", "g", TWO),
        c__cpu_cfs_quota_us="-1",
        c__cpu_cfs_period_us="100000",
        g__memory_max="max",
    )
    assert cpu_limit(here) is memory_limit(here) is None
    assert cpu_limit(tmp_path / "no process") is None


@pytest.mark.parametrize(
    ("groups", "mount", "file", "text"),
    [
        ("0::/\n", TWO, "memory.events", "low 0\nmax 40\noom 4\noom_kill 3\n"),
        (
            "9:memory:/\n",
            f"{ONE}{V1[1]}",
            "memory.oom_control",
            "under_oom 0\noom_kill 3\n",
        ),
    ],
)
def test_kills_for_want_of_memory_are_those_of_the_group(
    tmp_path: Path, groups: str, mount: str, file: str, text: str
) -> None:
    host = tmp_path / "vmstat"
    host.write_text("nr_free_pages 7\noom_kill 8\n")
    here = process(tmp_path, groups, ("/", "g", mount))
    assert memory_kills(here, host) == 8  # the whole machine's, where the group has no count of its own
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / file).write_text(text)
    assert memory_kills(here, host) == 3
    assert memory_kills(here.with_name("none"), here / "none") == 0
