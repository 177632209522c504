"""Starting the benchmark's processes: thread counts and caches set by environment variables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FERRULE_NUM_THREADS")


def environment(threads: int, cache: Path) -> dict[str, str]:
    """The environment of a process with so many threads and its compilers' caches in `cache`."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **dict.fromkeys(POOLS, str(threads)),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "FERRULE_CACHE_DIR": str(cache / "ferrule"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def lines_of(module: str, argument: str, threads: int, cache: Path) -> Iterator[str]:
    """The lines that `python -m module argument` prints, as they come.

    Only lines of JSON are kept. Raises ChildProcessError, after the last line, when the process
    ended with another status than 0.
    """
    command = [sys.executable, "-m", module, argument]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment(threads, cache), cwd=ROOT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield line
    if process.returncode != 0:
        raise ChildProcessError(f"{module} ended with status {process.returncode}")
