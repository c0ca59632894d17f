"""The share of CPU time that a container is granted, which counts of cores do not know.

Linux grants it by control groups: a group's quota is the time per period that its processes may use together, and that
of every group above it holds as well. Beyond it they wait, and threads that wait for each other wait with them.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "heed_cpu_quota"]

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def heed_cpu_quota() -> None:
    """Has PyTorch start no more threads than the quota is worth, unless OMP_NUM_THREADS is set already.

    It counts before its first operation: call this before PyTorch is imported.
    """
    quota = cpu_quota()
    if quota < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, math.floor(quota))))


def cpu_quota(groups: Path = _GROUPS, own: Path = _OWN) -> float:
    """CPUs that this process may use at once; infinite where nothing limits them, or is not known to.

    Args:
        groups: Where control groups are mounted.
        own: File that names those of this process, a line `number:controllers:/path` each.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf
    return min((quota for line in lines for quota in _quotas(groups, line)), default=math.inf)


def _quotas(groups: Path, line: str) -> Iterator[float]:
    """Quotas of a group and of those above it, in version 1 or 2 of control groups."""
    _, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    # Of version 1 the names of the mount; a container may see its own group as the root, whatever its path says.
    mounts = [groups / controllers, groups / "cpu"] if controllers else [groups, groups / "unified"]
    parts = Path(path.lstrip("/")).parts
    for mount in mounts:
        for depth in range(len(parts) + 1):
            group = mount.joinpath(*parts[:depth])
            if controllers:
                quota, period = _content(group / "cpu.cfs_quota_us"), _content(group / "cpu.cfs_period_us")
            else:
                quota, _, period = _content(group / "cpu.max").partition(" ")
            if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
