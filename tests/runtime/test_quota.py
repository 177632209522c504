"""The CPU quota of control groups, read from folders that look like /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ferrule.runtime import pool, quota

V2, V1 = "0::/a/b\n", "9:name=systemd:/x\n5:cpuacct,cpu:/a/b\n3:cpuset:/a/b\n"


def quota_of(root: Path, files: Mapping[str, str]) -> float | None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return quota.cpu_quota(root)


def v2(group: str, limit: str, groups: str = V2) -> dict[str, str]:
    return {"proc/self/cgroup": groups, f"sys/fs/cgroup/{group}cpu.max": limit}


def v1(group: str, limit: str, period: str = "100000\n", mount: str = "cpu") -> dict[str, str]:
    folder = f"sys/fs/cgroup/{mount}/{group}cpu.cfs_"
    files = {f"{folder}quota_us": limit, f"{folder}period_us": period}
    return {"proc/self/cgroup": V1, **files}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (v2("a/b/", "150000 100000\n"), 1.5),
        (v2("a/b/", "max 100000\n"), None),
        (v2("a/", "50000 100000\n"), 0.5),  # a parent's
        (v2("", "300000 100000\n", "0::/\n"), 3.0),  # a container's own view
        (v2("", "300000 100000\n", "0::/../other\n"), 3.0),
        (v2("unified/a/b/", "200000 100000\n"), 2.0),
        (v2("a/b/", "400000 100000\n") | v2("a/", "200000 100000\n"), 2.0),  # the smallest
        (v2("c/", "100000 100000\n"), None),  # another group's
        (v1("a/b/", "250000\n"), 2.5),
        (v1("a/b/", "-1\n"), None),
        (v1("", "100000\n", "50000\n"), 2.0),  # named as the host does, seen as the root
        (v1("a/", "100000\n", mount="cpuacct,cpu"), 1.0),
        (v2("a/b/", ""), None),
        (v2("a/b/", "many 100000\n"), None),
        (v2("a/b/", "100000 0\n"), None),
        (v2("a/b/", "100000\n"), None),
        (v1("a/b/", "\n"), None),
        ({"proc/self/cgroup": "what is this\n::\n\n"}, None),
        ({}, None),
    ],
)
def test_the_smallest_limit_of_a_group_and_its_parents(
    tmp_path: Path, files: Mapping[str, str], expected: float | None
) -> None:
    assert quota_of(tmp_path, files) == expected


def test_files_that_cannot_be_read_limit_nothing(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/a/b/cpu.max").mkdir(parents=True)
    assert quota_of(tmp_path, {"proc/self/cgroup": V2}) is None


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 8), (0.2, 1), (1.0, 1), (2.5, 3), (8.0, 8), (20.0, 8)]
)
def test_threads_are_no_more_than_the_quota(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, expected: int
) -> None:
    monkeypatch.delenv("FERRULE_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(pool, "cpu_quota", lambda: limit)
    assert pool.default_threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert pool.default_threads() == 5
