"""Threads follow the CPU time that control groups grant, and tiles the memory."""

import math
import os

import pytest

from samplers import control_groups as module
from samplers.control_groups import cpu_quota, heed_cpu_quota, memory_left


def _group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content + "\n")


def _own(tmp_path, *lines):
    file = tmp_path / "cgroup"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


@pytest.mark.parametrize(("content", "expected"), [
    ("250000 100000", 2.5), ("50000 100000", 0.5), ("max 100000", math.inf), ("", math.inf), ("many", math.inf),
    ("100000 0", math.inf),
])  # fmt: skip
def test_version_2_says_quota_and_period_in_one_file(tmp_path, content, expected):
    _group(tmp_path / "groups", cpu__max=content)
    assert cpu_quota(tmp_path / "groups", _own(tmp_path, "0::/")) == expected


def test_version_1_has_a_file_for_each(tmp_path):
    own = _own(tmp_path, "9:name=systemd:/a", "4:cpu,cpuacct:/a", "3:cpuset:/a")
    for mount in ("cpu,cpuacct", "cpu"):
        groups = tmp_path / mount / "groups"
        _group(groups / mount, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
        _group(groups / mount / "a", cpu__cfs_quota_us="300000", cpu__cfs_period_us="200000")
        # Of another controller: no quota.
        _group(groups / "cpuset" / "a", cpu__cfs_quota_us="1", cpu__cfs_period_us="100000")
        assert cpu_quota(groups, own) == 1.5


def test_the_smallest_quota_of_all_groups_above_holds(tmp_path):
    _group(tmp_path / "groups" / "pod", cpu__max="400000 100000")
    _group(tmp_path / "groups" / "pod" / "one", cpu__max="max 100000")
    _group(tmp_path / "groups" / "pod" / "one" / "deep", cpu__max="600000 100000")
    _group(tmp_path / "groups" / "other", cpu__max="100000 100000")
    assert cpu_quota(tmp_path / "groups", _own(tmp_path, "0::/pod/one/deep")) == 4
    # A container that sees its own group as the root, under the name it has outside.
    _group(tmp_path / "groups", cpu__max="200000 100000")
    assert cpu_quota(tmp_path / "groups", _own(tmp_path, "0::/docker/0123")) == 2


def test_memory_is_what_the_smallest_limit_leaves_and_caches_that_are_given_up(tmp_path):
    stat = {"memory__stat": "anon 7\ninactive_file 300\nactive_file 9"}
    _group(tmp_path / "groups" / "pod", memory__max="5000", memory__current="1000", **stat)
    _group(tmp_path / "groups" / "pod" / "one", memory__max="max", memory__current="900", **stat)
    own = _own(tmp_path, "0::/pod/one")
    assert memory_left(tmp_path / "groups", own) == 4300
    _group(tmp_path / "groups" / "pod" / "one", memory__max="1000")
    assert memory_left(tmp_path / "groups", own) == 400
    _group(tmp_path / "groups", memory__max="700", memory__current="600")
    assert memory_left(tmp_path / "groups", own) == 100


def test_nothing_limits_where_there_are_no_groups(tmp_path):
    for own in (tmp_path / "none", _own(tmp_path, "0::/a", "1:cpu:/b")):
        assert cpu_quota(tmp_path, own) == math.inf and memory_left(tmp_path, own) is None


@pytest.mark.parametrize(("quota", "given", "expected"), [
    (2.5, None, "2"), (0.5, None, "1"), (2.5, "7", "7"), (64.0, None, None), (math.inf, None, None),
])  # fmt: skip
def test_threads_follow_the_quota_unless_they_are_given(monkeypatch, quota, given, expected):
    monkeypatch.setattr(module, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    heed_cpu_quota()
    assert os.environ.get("OMP_NUM_THREADS") == expected
    # What was set here ends with the test.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
