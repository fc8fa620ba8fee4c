"""Threads follow the mask and every quota between the process and the root of its cgroups."""

import math
import os
from pathlib import Path

import pytest

from service.cpus import quota, usable_cpus

V2 = "sys/fs/cgroup/"
V1 = "sys/fs/cgroup/cpu/"
OWN = "proc/self/cgroup"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v1(granted: int, period: int = 100_000, group: str = "") -> dict[str, str]:
    place = f"{V1}{group}"
    return {f"{place}cpu.cfs_quota_us": f"{granted}\n", f"{place}cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({}, math.inf),
        # what a container with a namespace of its own sees: itself at the root
        ({OWN: "0::/\n", V2 + "cpu.max": "200000 100000\n"}, 2),
        ({V2 + "cpu.max": "50000 100000\n"}, 0.5),
        ({V2 + "cpu.max": "max 100000\n"}, math.inf),
        ({V2 + "cpu.max": "nonsense"}, math.inf),
        ({V2 + "cpu.max": "0 100000"}, math.inf),
        ({V2 + "cpu.max": "1 0"}, math.inf),
        (v1(300_000), 3),
        (v1(-1), math.inf),
        (v1(1, 0), math.inf),
        ({V1 + "cpu.cfs_quota_us": "300000\n"}, math.inf),
        # a service of systemd: its own group, a limit above it, and no file at the root
        (
            {
                OWN: "0::/system.slice/parallax.service\n",
                V2 + "system.slice/cpu.max": "max 100000\n",
                V2 + "system.slice/parallax.service/cpu.max": "150000 100000\n",
            },
            1.5,
        ),
        (
            {
                OWN: "0::/a/b/c\n",
                V2 + "a/cpu.max": "100000 100000\n",
                V2 + "a/b/cpu.max": "400000 100000\n",
                V2 + "a/b/c/cpu.max": "max 100000\n",
                V2 + "other/cpu.max": "10000 100000\n",
            },
            1,
        ),
        # v1, nested; the lines of other controllers do not count
        (
            {
                OWN: "5:cpuset:/x\n4:cpu,cpuacct:/docker/9f\n1:name=systemd:/x\n0::/\n",
                **v1(-1),
                **v1(250_000, group="docker/9f/"),
                **v1(10_000, group="x/"),
            },
            2.5,
        ),
        # v1 in a container that sees the host's path, and its own group at the root
        ({OWN: "4:cpuacct,cpu:/kubepods/pod1/9f\n", **v1(200_000)}, 2),
        # hybrid: limits may stand in either
        (
            {
                OWN: "4:cpu:/a\n0::/b\n",
                V2 + "b/cpu.max": "300000 100000",
                **v1(200_000, group="a/"),
            },
            2,
        ),
        # outside of the namespace's root
        ({OWN: "0::/../other\n", "sys/fs/other/cpu.max": "100000 100000\n"}, math.inf),
        ({OWN: "nonsense\n\n0\n", V2 + "cpu.max": "200000 100000\n"}, 2),
    ],
)
def test_the_least_quota_above_the_process_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], granted: float
) -> None:
    root = machine(tmp_path, files)
    assert quota(root) == granted
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert usable_cpus(root) == min(8, math.ceil(min(granted, 8)))


def test_the_mask_counts_where_it_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, {V2 + "cpu.max": "400000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert usable_cpus(root) == 1


def test_this_machine_has_a_cpu() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
