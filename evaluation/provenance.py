"""What figures were computed with: versions, commit, weights, device, memory."""

import contextlib
import hashlib
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["PeakMemory", "provenance"]


def provenance(weights: Path | None, device: torch.device) -> dict[str, object]:
    """Versions, commit, device and, if weights are given, the sha256 of every file of theirs.

    The commit is dirty if files that git tracks differ from it.
    """
    project = Path(__file__).resolve().parent.parent
    # Files that git does not track are no part of the project: the folder of the figures may be among them.
    commit, changes = _git(project, "rev-parse", "HEAD"), _git(project, "status", "--porcelain", "--untracked-files=no")
    files = sorted(weights.rglob("*.safetensors")) if weights else []
    packages = ("scorefocus", "torch", "diffusers", "numpy", "lpips", "scikit-image", "deepinv")
    return {
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in packages}},
        "git": {"commit": commit, "dirty": bool(changes) if changes is not None else None},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "weights_sha256": {
            file.relative_to(weights).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        },
    }


class PeakMemory:
    """Largest memory since `reset`, in MiB: of the GPU on a GPU, else of the process.

    Where the system cannot forget the process's earlier peak (anything but Linux), that peak counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """Forgets earlier peaks."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        # Not Linux, or not allowed: the peak of the whole run is reported.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def mib(self) -> float:
        """The peak."""
        if self._device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self._device) / 2**20, 1)
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024, 1)
        except (OSError, StopIteration):
            unit = 1 if sys.platform == "darwin" else 1024
            return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
