"""What a container is granted of CPU time and memory, which counts of cores and of free memory do not know.

Linux grants it by control groups: a limit holds for all processes of a group, and that of every group above it as well.
Beyond a quota of CPU time they wait, and threads that wait for each other wait with them.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "heed_cpu_quota", "memory_left"]

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
    quotas = [math.inf]
    for group in _own_groups("cpu", groups, own):
        # A file for both in version 2 of control groups, one for each in version 1.
        quota, _, period = _content(group / "cpu.max").partition(" ")
        if not period:
            quota, period = _content(group / "cpu.cfs_quota_us"), _content(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas)


def memory_left(groups: Path = _GROUPS, own: Path = _OWN) -> int | None:
    """Bytes that this process may still take, in version 2 of control groups; None where nothing is known to limit it.

    Args:
        groups: See `cpu_quota`.
        own: See there.
    """
    left = []
    for group in _own_groups("memory", groups, own):
        limit, used = _content(group / "memory.max"), _content(group / "memory.current")
        if limit.isdecimal() and used.isdecimal():
            caches = dict(line.split(maxsplit=1) for line in _content(group / "memory.stat").splitlines())
            left.append(int(limit) - int(used) + int(caches.get("inactive_file", 0)))
    return min(left, default=None)


def _own_groups(controller: str, groups: Path, own: Path) -> Iterator[Path]:
    """Folders of this process's groups and of those above them that may limit what a controller grants."""
    for line in _content(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Of version 1 the names of the mount; a container may see its own group as the root, whatever its path says.
        mounts = [groups / controllers, groups / controller] if controllers else [groups, groups / "unified"]
        parts = Path(path.lstrip("/")).parts
        for mount in mounts:
            yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
