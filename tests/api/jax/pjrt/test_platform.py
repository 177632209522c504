"""Programs of JAX on ferrule's platform, and who gets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.jax.pjrt.cases import CASES

pytest.importorskip("jax", minversion="0.10")
ROOT = Path(__file__).parent.parent.parent.parent.parent


def python(*command: str, path: str = "", platforms: str = "") -> str:
    """What a process of Python prints, which must end well."""
    found = os.pathsep.join(filter(None, (path, str(ROOT))))
    environment = {**os.environ, "PYTHONPATH": found, "JAX_PLATFORMS": platforms}
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What went wrong in each case."""
    lines = python("-m", "tests.api.jax.pjrt.cases").splitlines()
    return dict(json.loads(line) for line in lines if line.startswith("["))


@pytest.mark.parametrize("name", CASES)
def test_on_the_platform(found: dict[str, str], name: str) -> None:
    assert found[name] == "", found[name]


SHOWN = """
import sys, jax
print(jax.devices()[0].platform, jax.jit(lambda x: x + 1)(1), "ferrule.api" in sys.modules)
"""


@pytest.mark.parametrize(
    ("platforms", "shown"),
    [("", "cpu 2 False"), ("cpu", "cpu 2 False"), ("ferrule", "ferrule 2 True"),
     ("cpu,ferrule", "cpu 2 True")],
)  # fmt: skip
def test_who_has_installed_ferrule(tmp_path: Path, platforms: str, shown: str) -> None:
    """gets its platform by naming it alone, and else not even its modules."""
    installed = tmp_path / "some.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 0\n")
    project = (ROOT / "pyproject.toml").read_text()
    _, _, entries = project.partition("[project.entry-points.jax_plugins]\n")
    entry = entries.partition("\n\n")[0].replace('"', "")
    (installed / "entry_points.txt").write_text(f"[jax_plugins]\n{entry}\n")
    assert python("-c", SHOWN, path=str(tmp_path), platforms=platforms).strip() == shown


def test_registering_it_changes_no_default() -> None:
    code = f"import ferrule.jax; ferrule.jax.register_platform(){SHOWN}"
    assert python("-c", code).startswith("cpu 2")
