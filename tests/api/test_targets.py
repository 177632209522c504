"""Libraries for other architectures than this one: C programs that call them, under emulators."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

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


# ---- WebAssembly ---------------------------------------------------------------------------------

node = pytest.mark.skipif(
    any(shutil.which(p) is None for p in ("node", "wasm-ld")),
    reason="needs node and wasm-ld (Debian: nodejs, lld)",
)

# Runs a model on arrays that files hold, as many times as there are calls of other sizes.
SCRIPT = """
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { load } from "./NAME.mjs";
const calls = JSON.parse(readFileSync("calls.json"));
const weights = existsSync("NAME.safetensors") ? readFileSync("NAME.safetensors") : null;
const model = await load(readFileSync("NAME.wasm"), weights);
const specs = model.inputs();
calls.forEach((shapes, c) => {
  const inputs = shapes.map((shape, k) => {
    const bytes = readFileSync(`x${c}.${k}`);
    const size = specs[k].array.BYTES_PER_ELEMENT;
    return { shape, data: new specs[k].array(bytes.buffer.slice(
      bytes.byteOffset, bytes.byteOffset + bytes.length), 0, bytes.length / size) };
  });
  model.run(inputs).forEach((y, k) => {
    writeFileSync(`y${c}.${k}`, y.data);
    const order = y.order ?? y.shape.map((_, d) => d);
    writeFileSync(`y${c}.${k}.json`, JSON.stringify([y.shape, order]));
  });
});
model.destroy();
"""


class Image(torch.nn.Module):
    """Two results, one of 64-bit integers, one of bytes, and one in another layout."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 3)

    def forward(self, x: Any) -> Any:
        y = self.two(torch.relu(self.one(x)))
        return y, y.flatten(1).argmax(-1), y > 0


def in_node(folder: Path, calls: list[list[Any]], model: Any) -> str:
    """Compares what Node makes of a bundle's module with what this machine makes."""
    shapes = [[list(x.shape) for x in call] for call in calls]
    (folder / "calls.json").write_text(json.dumps(shapes))
    for c, call in enumerate(calls):
        for k, x in enumerate(call):
            (folder / f"x{c}.{k}").write_bytes(x.ravel(order="K").tobytes())
    (folder / "own.mjs").write_text(SCRIPT.replace("NAME", folder.name))
    done = outcome(["node", "own.mjs"], folder)
    assert done.returncode == 0, done.stderr
    for c, call in enumerate(calls):
        outputs = model(*map(torch.from_numpy, call))
        for k, y in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
            shape, order = json.loads((folder / f"y{c}.{k}.json").read_text())
            wanted = y.detach().numpy()
            found = np.frombuffer((folder / f"y{c}.{k}").read_bytes(), wanted.dtype)
            found = found.reshape([shape[d] for d in order]).transpose(np.argsort(order))
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)
    return done.stdout


@node
@pytest.mark.slow
def test_node_runs_a_module_for_any_size(tmp_path: Path) -> None:
    model, rng = compiled(), np.random.default_rng(2)
    model.bundle(tmp_path / "net", ["wasm32"])
    calls = [[rng.standard_normal((n, 64)).astype("f4")] for n in (1, 7, 512, 3)]
    in_node(tmp_path / "net", calls, model)


@node
@pytest.mark.parametrize("last", [False, True], ids=["row-major", "channels-last"])
def test_node_runs_images(last: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 3, 12, 12)
    x = x.to(memory_format=torch.channels_last) if last else x
    model = ferrule.compile(Image().eval(), (x,))
    model.bundle(tmp_path / "image", ["wasm32"])
    in_node(tmp_path / "image", [[x.numpy()]], model)


class Functions(torch.nn.Module):
    """What is arithmetic of our own, and roundings, in several dtypes."""

    def forward(self, x: Any, y: Any) -> Any:
        some = (torch.exp, torch.tanh, torch.sin, torch.erf, torch.log1p, torch.sqrt)
        rounded = (torch.floor, torch.ceil, torch.trunc, torch.round)
        found = [f(x.abs()) for f in some] + [f(x * 2) / 2 for f in rounded]
        whole = (x * 5).to(torch.int64) // 3 + y
        return torch.stack(found), x.double().exp(), x.half(), (x.half() * 3).relu(), whole


@node
def test_functions_and_dtypes_in_node(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((9, 21)).astype("f4") * 2, rng.integers(-9, 9, (9, 21))
    model = ferrule.compile(Functions().eval(), (torch.from_numpy(x), torch.from_numpy(y)))
    model.bundle(tmp_path / "many", ["wasm32"])
    in_node(tmp_path / "many", [[x, y]], model)


REFUSED = """
import { readFileSync } from "node:fs";
import { load } from "./net.mjs";
const wasm = readFileSync("net.wasm"), weights = readFileSync("net.safetensors");
const said = async (f) => {
  try { await f(); console.log("nothing"); } catch (e) { console.log(e.message); }
};
const x = (n, width) => [{ data: new Float32Array(n * width), shape: [n, width] }];
const module = await WebAssembly.compile(wasm);
console.log(JSON.stringify(WebAssembly.Module.imports(module)));
const model = await load(wasm, weights);
await said(() => model.run(x(4, 65)));
await said(() => model.run(x(513, 64)));
await said(() => model.run([{ data: new Float32Array(3), shape: [1, 64] }]));
await said(() => model.run([{ data: new Float64Array(64), shape: [1, 64] }]));
await said(() => model.run([]));
await said(() => load(wasm, weights.subarray(0, 100)));
await said(() => load(wasm));
for (let n = 1; n <= 512; n++) model.run(x(n, 64));
const before = model.c.memory.buffer.byteLength;
for (let n = 1; n <= 512; n++) model.run(x(1 + (n * 7) % 512, 64));
console.log(model.c.memory.buffer.byteLength - before, before < 1 << 24);
console.log(model.c.net_alloc(2 ** 31) >>> 0, model.c.net_create(0, 0, 8) !== 0);
"""


@node
def test_a_module_refuses_what_does_not_fit_and_uses_its_memory_again(tmp_path: Path) -> None:
    compiled().bundle(tmp_path / "net", ["wasm32"])
    (tmp_path / "net" / "refused.mjs").write_text(REFUSED)
    done = outcome(["node", "refused.mjs"], tmp_path / "net")
    assert done.returncode == 0, done.stderr
    wanted = [
        "[]", "axis 1 must be 64, not 65", "must be 1 to 512, got 513", "has 3 elements",
        "must be a Float32Array", "takes 1 inputs, not 0", "there are 100 bytes",
        "net has weights: their pointer is null", "0 true", "0 true",
    ]  # fmt: skip
    for line, words in zip(done.stdout.splitlines(), wanted, strict=True):
        assert words in line


@node
def test_the_example_runs_in_node(tmp_path: Path) -> None:
    compiled().bundle(tmp_path / "net", ["wasm32"])
    done = outcome(["node", "main.mjs"], tmp_path / "net")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("output [4, 50] 0.0")


def test_without_a_linker_there_are_objects_and_a_command(tmp_path: Path) -> None:
    model = compiled()
    with mock.patch("ferrule.codegen.link.wasm.is_installed", return_value=False):
        model.bundle(tmp_path / "net", ["wasm32"])
    files = {f.name for f in (tmp_path / "net").iterdir()}
    assert {"api.o", "pool.o", "program0.o", "link.sh", "net.h"} <= files
    assert "net.wasm" not in files
    if shutil.which("wasm-ld"):
        assert outcome(["sh", "link.sh"], tmp_path / "net").returncode == 0
        model.bundle(tmp_path / "other" / "net", ["wasm32"])
        module = (tmp_path / "net" / "net.wasm").read_bytes()
        assert module == (tmp_path / "other" / "net" / "net.wasm").read_bytes()


def test_wasm_is_no_target_of_artifacts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make a C bundle for wasm32"):
        compiled().save(tmp_path / "net.ferrule", ["x86-64", "wasm32"])
