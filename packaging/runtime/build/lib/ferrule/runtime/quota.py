"""How much CPU time the control groups of this process allow, as containers set it.

    own group and its parents -> quota / period, the smallest of them

A group of version 2 says it in `cpu.max` ("QUOTA PERIOD", or "max" for no limit), one of version 1
in `cpu.cfs_quota_us` (-1 for no limit) and `cpu.cfs_period_us`. `/proc/self/cgroup` names the
groups. In a container it may name them as the host does, where the files are seen from the
container's own group on: folders that are not there are passed over on the way up to the
mount point. What cannot be read limits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT = "sys/fs/cgroup"


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that this process may use, above 0, or None where nothing limits it.
    `root` is the folder with proc and sys.
    """
    limits = [limit for folder in _folders(root) for limit in _limits(folder)]
    return min(limits, default=None)


def _folders(root: Path) -> Iterator[Path]:
    """The folders of this process's groups and of their parents, which need not exist."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        if number == "0" and not controllers:
            mounts = ["", "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [controllers, "cpu"]
        else:
            continue
        for mount in dict.fromkeys(mounts):
            for depth in range(len(names), -1, -1):
                yield root.joinpath(_MOUNT, mount, *names[:depth])


def _limits(folder: Path) -> Iterator[float]:
    """What the files of one group allow."""
    quota_and_period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    for texts in (_text(folder / "cpu.max").split(), quota_and_period):
        try:
            quota, period = map(int, texts)
        except ValueError:
            continue
        if quota > 0 and period > 0:
            yield quota / period


def _text(file: Path) -> str:
    """What a file says, or nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""
