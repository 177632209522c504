"""JAX's own tests on ferrule's platform of JAX: how many are right, refused, and wrong.

    git clone --branch jax-v0.10.2 https://github.com/jax-ml/jax
    JAX_NUM_GENERATED_CASES=1 python -m tests.frontend.jax_suite --tests jax/tests lax_test.py ..

Needs pytest, absl-py and hypothesis beside JAX. Each file runs in a process of its own. A test is
refused that fails with a message that says what is not supported; one that fails otherwise is
wrong. Names of tests behind `--names` run alone, as with `pytest -k`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
REFUSED = re.compile(
    r"UNIMPLEMENTED|EmitPythonCallback|is not supported by dot_general on CPU|"
    r"cannot be used as a DLPack device|Unknown backend:? '?cpu|find a local CPU device|"
    r"MLIR translation rule for primitive"
)
RUN = """
import sys
import ferrule.jax
ferrule.jax.register_platform()
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def verdict(case: ET.Element) -> tuple[str, str]:
    """What became of a test of a report, and its message."""
    for kind in ("failure", "error"):
        found = case.find(kind)
        if found is not None:
            text = f"{found.get('message', '')} {found.text or ''}"
            first = " ".join(found.get("message", "").split())
            return ("refused" if REFUSED.search(text) else "wrong"), first
    return ("skipped" if case.find("skipped") is not None else "right"), ""


def verdicts(tests: Path, file: str, names: str, limit: float) -> list[tuple[str, str, str]]:
    """Name, verdict and message of each test of a file; one with the verdict "crash" if the process
    ended.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "ferrule", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        options += ["-k", names] * bool(names)
        command = [sys.executable, "-c", RUN, *options, str(tests / file)]
        try:
            done = subprocess.run(
                command, cwd=tests.parent, env=environment, capture_output=True, text=True,
                timeout=limit, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return [(file, "crash", f"took more than {limit:g} s")]
        if not report.exists():
            return [(file, "crash", " ".join((done.stdout + done.stderr)[-2000:].split()))]
        cases = ET.parse(report).getroot().iter("testcase")
        return [(case.get("name", ""), *verdict(case)) for case in cases]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--tests", type=Path, required=True, help="the folder of JAX's tests")
    parser.add_argument("--names", default="", help="of the tests to run")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for each file")
    o = parser.parse_args(arguments)
    total: Counter[str] = Counter()
    for file in o.files:
        counts: Counter[str] = Counter()
        for name, said, message in verdicts(o.tests.resolve(), file, o.names, o.limit):
            counts[said] += 1
            if said not in ("right", "skipped"):
                print(f"{said:8} {name}: {message[:200]}")
        print(f"{file}: " + ", ".join(f"{n} {v}" for v, n in sorted(counts.items())), flush=True)
        total += counts
    print("all: " + ", ".join(f"{n} {v}" for v, n in sorted(total.items())))
    return 1 if total["wrong"] or total["crash"] else 0


if __name__ == "__main__":
    sys.exit(main())
