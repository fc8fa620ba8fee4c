"""How many CPUs this process may use: the scheduler's mask, cut by the quotas of its cgroups.

A container with a quota of two CPUs on a host of 64 still sees 64; 64 threads would be throttled.
Knows the files of Linux; elsewhere the answer is what Python says.
"""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OWN = Path("proc/self/cgroup")
_V2 = Path("sys/fs/cgroup")
_V1 = Path("sys/fs/cgroup/cpu")


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs, at least 1; a broken one counts whole. `root` is where `proc` and `sys` are."""
    if sys.platform == "linux":
        allowed = len(os.sched_getaffinity(0))
    else:  # pragma: no cover  # the mask exists on Linux only
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, quota(root))))


def quota(root: Path = Path("/")) -> float:
    """CPUs that the cgroups of this process grant, infinite where none limits them.

    A quota binds all that is below it, so the least one on the way from the root counts. Inside a
    container the path may be the host's, of which only the end is to be seen, at the root.
    """
    v1, v2 = _own_groups(root)
    return min(
        *(_quota_v2(root / _V2 / path) for path in v2),
        *(_quota_v1(root / _V1 / path) for path in v1),
    )


def _own_groups(root: Path) -> tuple[list[str], list[str]]:
    """Paths of the cgroup v1 and v2 of this process and of all above it, the roots at least."""
    v1, v2 = {"": None}, {"": None}  # in the order in which they are found
    try:
        lines = (root / _OWN).read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            v2 |= dict.fromkeys(_upwards(path))
        elif "cpu" in controllers.split(","):
            v1 |= dict.fromkeys(_upwards(path))
    return list(v1), list(v2)


def _upwards(path: str) -> Iterator[str]:
    """`/a/b` as a/b, a; nothing of a path that leads out of what this process sees."""
    below = PurePosixPath(path.lstrip("/"))
    if ".." not in below.parts:
        yield str(below)
        yield from (str(parent) for parent in below.parents)


def _quota_v2(group: Path) -> float:
    """By `cpu.max`: "50000 100000" is half a CPU, "max 100000" no limit."""
    try:
        granted, period = (group / "cpu.max").read_text().split()
        return _positive(int(granted) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _quota_v1(group: Path) -> float:
    """By `cpu.cfs_quota_us`, where -1 is no limit."""
    try:
        granted = int((group / "cpu.cfs_quota_us").read_text())
        return _positive(granted / int((group / "cpu.cfs_period_us").read_text()))
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _positive(granted: float) -> float:
    return granted if granted > 0 else math.inf
