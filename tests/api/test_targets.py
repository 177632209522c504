"""Libraries for other architectures than this one: C programs that call them, under emulators."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.base.cpu import architecture
from ferrule.base.errors import InputError
from ferrule.codegen.link.read import UNDEFINED, read_object
from ferrule.runtime.load import load
from tests.api.clibrary import members, outcome

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

COMPILER, EMULATOR = "riscv64-linux-gnu-gcc", "qemu-riscv64"
ABSENT = [p for p in (COMPILER, EMULATOR) if shutil.which(p) is None]
riscv = pytest.mark.skipif(
    bool(ABSENT),
    reason=f"needs {', '.join(ABSENT)} (Debian: gcc-riscv64-linux-gnu, libc6-dev-riscv64-cross, "
    "qemu-user)",
)
CPUS = {
    "v=false": "riscv64",
    "v=true,vlen=128,vext_spec=v1.0": "riscv64-v",
    "v=true,vlen=256,vext_spec=v1.0": "riscv64-v",
}
ROWS = 150


class Net(torch.nn.Module):
    """Products, a softmax, and enough work for two threads."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(64, 256), torch.nn.Linear(256, 50)

    def forward(self, x: Any) -> Any:
        y = torch.nn.functional.gelu(self.one(x))
        return torch.softmax(self.two(y), -1)


# Reads the input from a file, runs the model in two threads, and writes the output.
DRIVER = """
#include "net.h"
#include <stdio.h>
static float x[ROWS][64], y[ROWS][50];
int main(int argc, char **argv) {
  net_options options = {sizeof options, 2, 0, 0};
  net_model *model;
  if (net_create(argv[1], &options, &model)) return fprintf(stderr, "%s", net_message()), 1;
  FILE *in = fopen("x.bin", "rb");
  if (!in || fread(x, sizeof x, 1, in) != 1) return 2;
  int64_t x_shape[] = {ROWS, 64}, y_shape[] = {ROWS, 50};
  DLTensor input = {x, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, x_shape, 0, 0};
  DLTensor output = {y, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, y_shape, 0, 0};
  if (net_run(model, &input, &output)) return fprintf(stderr, "%s", net_message()), 3;
  FILE *out = fopen("y.bin", "wb");
  fwrite(y, sizeof y, 1, out);
  fclose(out);
  printf("%s", net_level(model));
  net_destroy(model);
  return 0;
}
""".replace("ROWS", str(ROWS))


def compiled() -> Any:
    torch.manual_seed(7)
    n = torch.export.Dim("n", min=1, max=512)
    return ferrule.compile(Net().eval(), (torch.randn(8, 64),), dynamic_shapes=({0: n},))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A bundle with both levels of RISC-V, an input in it, and what this machine makes of that."""
    folder, model = tmp_path_factory.mktemp("targets") / "net", compiled()
    model.bundle(folder, ["riscv64-v", "riscv64"])
    x = np.random.default_rng(1).standard_normal((ROWS, 64)).astype("f4")
    (folder / "x.bin").write_bytes(x.tobytes())
    (folder / "own.c").write_text(DRIVER)
    return folder, model(torch.from_numpy(x)).detach().numpy()


def program(folder: Path, static: bool) -> Path:
    out = folder / ("own-static" if static else "own-shared")
    library = ["-static", "libnet.a"] if static else ["-L.", "-lnet", "-Wl,-rpath,$ORIGIN"]
    done = outcome([COMPILER, "-O1", "own.c", *library, "-pthread", "-o", out.name], folder)
    assert done.returncode == 0, done.stderr
    return out


def emulated(cpu: str, file: Path, *arguments: str) -> Any:
    root = ["-L", "/usr/riscv64-linux-gnu"]
    return outcome([EMULATOR, *root, "-cpu", f"rv64,{cpu}", file, *arguments], file.parent)


@riscv
@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
@pytest.mark.parametrize("cpu", CPUS)
def test_each_cpu_of_riscv_takes_the_best_that_it_has(cpu: str, static: bool, bundle: Any) -> None:
    folder, expected = bundle
    done = emulated(cpu, program(folder, static), "net.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == CPUS[cpu]
    found = np.frombuffer((folder / "y.bin").read_bytes(), "f4").reshape(ROWS, 50)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@riscv
def test_a_cpu_of_riscv_without_vectors_is_told(tmp_path: Path) -> None:
    compiled().bundle(tmp_path / "net", ["riscv64-v"])
    (tmp_path / "net" / "own.c").write_text(DRIVER)
    done = emulated("v=false", program(tmp_path / "net", True), "net.safetensors")
    assert done.returncode == 1
    assert "net was compiled for riscv64-v, and this CPU lacks what these need" in done.stderr


def test_programs_for_riscv_import_nothing(bundle: Any) -> None:
    objects = members(bundle[0] / "libnet.a")
    programs = [code for n, code in objects.items() if n.startswith("program")]
    assert len(programs) == 2
    for code in programs:
        found = read_object(code)
        assert found.machine == 243
        assert [s.name for s in found.symbols if s.section == UNDEFINED and s.name] == []


@pytest.mark.parametrize("target", ["aarch64", "riscv64"])
def test_an_artifact_for_another_architecture_is_refused(target: str, tmp_path: Path) -> None:
    if architecture() == target:
        pytest.skip("this is the architecture")
    compiled().save(tmp_path / "net.ferrule", [target])
    words = rf"has code for {target}/\w+ alone, and this machine is {architecture()}-linux"
    with pytest.raises(InputError, match=words):
        load(tmp_path / "net.ferrule")
