"""Artifacts: what is saved runs without the compiler, gives the same bits, and is refused when it
is damaged.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import ferrule
from ferrule.base.cpu import architecture, supports
from ferrule.base.errors import FerruleError, GuardError, InputError, UnsupportedError
from ferrule.base.manifest import FORMAT, MANIFEST, WEIGHTS
from ferrule.base.safetensors import tensors_of
from ferrule.pipeline.compile import compile_for
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.cpu import Executable
from ferrule.runtime.load import load
from ferrule.target.cpu import PORTABLE, portable

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are ELF"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HERE = [t for t, (m, level) in PORTABLE.items() if m == architecture() and supports(level)]
BATCH = torch.export.Dim("n", min=1, max=64)


class Net(torch.nn.Module):
    """A convolution, a normalisation, a product with a symbolic batch, and two results."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: Any, scale: Any) -> Any:
        y = torch.relu(self.norm(self.conv(x))).mean((2, 3)) * scale
        return torch.softmax(self.head(y), -1), y.argmax(-1)


def net() -> Any:
    torch.manual_seed(3)
    return Net().eval()


def compiled(module: Any, *inputs: Any, **options: Any) -> Any:
    return ferrule.compile(module, inputs, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file for every level of this architecture, and the model that it was made of."""
    path = tmp_path_factory.mktemp("saved") / "net.ferrule"
    inputs = torch.randn(2, 3, 9, 9), torch.randn(8)
    model = compiled(net(), *inputs, dynamic_shapes=({0: BATCH}, None))
    model.save(path, HERE)
    return path, model


def images(n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, 3, 9, 9)).astype("f4"), rng.standard_normal(8).astype("f4")


def test_one_file_serves_every_batch(saved: tuple[Path, Any]) -> None:
    path, model = saved
    loaded = ferrule.load(path)
    assert loaded.inputs == ("x", "scale")
    assert loaded.outputs == ("output0", "output1")
    for n in (1, 2, 7, 64):
        x, scale = images(n)
        expected = model(torch.from_numpy(x), torch.from_numpy(scale))
        found = loaded(x, scale)
        np.testing.assert_allclose(found[0], expected[0].detach(), rtol=2e-5, atol=1e-6)
        np.testing.assert_array_equal(found[1], expected[1])
        by_name = loaded.run(["output1"], {"scale": scale, "x": x})
        np.testing.assert_array_equal(by_name[0], found[1])
    with pytest.raises(GuardError, match="1 to 64"):
        loaded(*images(65))


@pytest.mark.parametrize("target", HERE)
def test_each_level_gives_the_bits_of_its_code(
    target: str, saved: tuple[Path, Any], tmp_path: Path
) -> None:
    source = saved[1].source("main")
    saved[1].save(tmp_path / "one.ferrule", [target])
    loaded = load(tmp_path / "one.ferrule")
    assert loaded.target == PORTABLE[target][1]
    linked = Executable(compile_for(source.graph, portable(target), ferrule.base.config.settings()))
    linked.bind([(x.ctypes.data, x) for _, x in source.params])
    x, scale = images(5)
    for found, expected in zip(loaded(x, scale), NumpyCallable(linked)(x, scale), strict=True):
        np.testing.assert_array_equal(found, expected)


ALONE = """
import sys
for name in ("llvmlite", "torch", "onnx"):
    sys.modules[name] = None
import numpy as np
HEAVY = {"numpy.typing", "importlib.resources", "importlib.metadata", "zipfile", "inspect"}
HEAVY |= {"ferrule.runtime.trace", "ferrule.runtime.linked"}
HEAVY -= set(sys.modules)
from ferrule.runtime.load import load
folder = sys.argv[1]
loaded = load(folder + "/net.ferrule")
x, scale = np.load(folder + "/x.npy"), np.load(folder + "/scale.npy")
np.save(folder + "/found.npy", loaded(x, scale)[0])
print(loaded.target)
print(sorted(m for m in sys.modules if m.startswith("ferrule.")))
print([m for m in HEAVY if m in sys.modules])
"""


def test_it_runs_with_numpy_alone(saved: tuple[Path, Any]) -> None:
    path = saved[0]
    x, scale = images(6)
    np.save(path.with_name("x.npy"), x)
    np.save(path.with_name("scale.npy"), scale)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path.parent)], capture_output=True, text=True, check=True
    )
    np.testing.assert_array_equal(np.load(path.with_name("found.npy")), load(path)(x, scale)[0])
    assert done.stdout.splitlines()[2] == "[]"  # of which some take as long as all that is ours
    rooms = {name.split(".")[1] for name in eval(done.stdout.splitlines()[1])}
    assert rooms == {"base", "runtime"}


@pytest.mark.skipif(
    architecture() != "x86_64" or shutil.which("qemu-x86_64") is None, reason="no emulator"
)
@pytest.mark.parametrize(
    ("cpu", "level"), [("Nehalem", "generic"), ("Haswell", "avx2"), ("max", "avx2")]
)
def test_each_cpu_takes_the_best_that_it_has(
    cpu: str, level: str, saved: tuple[Path, Any], tmp_path: Path
) -> None:
    """Of all levels in one file, as the CPU itself tells, whatever machine that is."""
    saved[1].save(tmp_path / "net.ferrule", ["x86-64", "x86-64-v3", "x86-64-v4"])
    x, scale = images(3)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "scale.npy", scale)
    run = [shutil.which("qemu-x86_64") or "", "-cpu", cpu, sys.executable, "-c", ALONE]
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Nehalem", "FERRULE_NUM_THREADS": "2"}
    done = subprocess.run(
        [*run, str(tmp_path)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split()[0] == level
    expected = saved[1](torch.from_numpy(x), torch.from_numpy(scale))[0].detach()
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=2e-5, atol=1e-6)


def test_options_of_the_compilation_hold_for_what_is_saved(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    seen: list[Any] = []

    def build(*given: Any, **options: Any) -> None:
        seen.append(given[-1])

    inputs = [torch.from_numpy(x) for x in images(2)]
    model = compiled(net(), *inputs, options={"numerics": "strict"})
    with mock.patch("ferrule.api.artifacts.build", build):
        model.save(tmp_path / "a.ferrule")
        saved[1].save(tmp_path / "b.ferrule")
    assert [s.numerics for s in seen] == ["strict", "fast"]


def test_files_of_any_size(saved: tuple[Path, Any], tmp_path: Path) -> None:
    """Entries of 2 GiB and more have headers of another form."""
    with mock.patch("ferrule.pipeline.build._LARGE", 1):
        saved[1].save(tmp_path / "large.ferrule", HERE)
    x, scale = images(2)
    found = load(tmp_path / "large.ferrule")(x, scale)[0]
    np.testing.assert_array_equal(found, load(saved[0])(x, scale)[0])
    with zipfile.ZipFile(tmp_path / "large.ferrule") as archive:
        assert archive.testzip() is None


def test_equal_models_give_equal_files(saved: tuple[Path, Any], tmp_path: Path) -> None:
    saved[1].save(tmp_path / "net.ferrule", HERE)
    assert (tmp_path / "net.ferrule").read_bytes() == saved[0].read_bytes()


def test_entries_lie_on_pages_and_weights_are_those_of_the_model(saved: tuple[Path, Any]) -> None:
    data = saved[0].read_bytes()
    with zipfile.ZipFile(saved[0]) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            head = data[info.header_offset : info.header_offset + 30]
            name, extra = (int.from_bytes(head[k : k + 2], "little") for k in (26, 28))
            assert (info.header_offset + 30 + name + extra) % 4096 == 0
        weights = tensors_of(memoryview(archive.read(WEIGHTS)))
    state = saved[1]._program.state_dict
    for name, x in weights.items():
        np.testing.assert_array_equal(x, state[name].detach().numpy())


def test_damage_is_told_and_code_that_was_changed_is_never_opened(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    data, rng = saved[0].read_bytes(), random.Random(5)
    x, scale = images(2)
    expected = load(saved[0])(x, scale)[0]
    path, refused = tmp_path / "damaged.ferrule", 0
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        refused += _refused(path, x, scale, expected)
    for end in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        refused += _refused(path, x, scale, expected)
    assert refused > 150  # the rest fell on what fills up pages


def _refused(path: Path, x: Any, scale: Any, expected: Any) -> bool:
    try:
        found = load(path)(x, scale)[0]
    except FerruleError:
        return True
    np.testing.assert_array_equal(found, expected)
    return False


def changed(path: Path, target: Path, **facts: Any) -> Path:
    """A copy of an artifact whose manifest says other things."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == MANIFEST:
                data = json.dumps({**json.loads(data), **facts}).encode()
            new.writestr(info.filename, data)
    return target


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"format": FORMAT + 1}, "^[^:]*: the artifact has format"),
        ({"requires": ["telepathy"]}, "^[^:]*: the artifact requires telepathy"),
        ({"entries": []}, "no function"),
        ({"libraries": {}}, "code for nothing alone"),
        ({"entries": 3}, "malformed"),
        ({"format": float("inf")}, "malformed"),
        ({"files": {}}, "lacks lib/"),
    ],
)
def test_a_manifest_that_cannot_be_followed_is_refused(
    facts: dict[str, Any], message: str, saved: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load(changed(saved[0], tmp_path / "other.ferrule", **facts))


def test_unknown_facts_are_passed_over(saved: tuple[Path, Any], tmp_path: Path) -> None:
    assert load(changed(saved[0], tmp_path / "other.ferrule", weather="fine")).inputs


def test_arguments_are_checked(saved: tuple[Path, Any]) -> None:
    loaded = load(saved[0])
    x, scale = images(2)
    for args, kwargs, message in [
        ((x,), {}, "lacks scale"),
        ((x, scale, x), {}, "takes 2 inputs, not 3"),
        ((x,), {"x": x}, "x is given twice"),
        ((), {"x": x, "scale": scale, "y": x}, "has no y"),
        ((x.astype("f8"), scale), {}, "dtype f32"),
        ((x[:, :2], scale), {}, "axis 1 must be 3"),
    ]:
        with pytest.raises((InputError, TypeError), match=message):
            loaded(*args, **kwargs)
    with pytest.raises(InputError, match="no output 'z'"):
        loaded.run(["z"], {"x": x, "scale": scale})
    with pytest.raises(InputError, match="no function 'decode'"):
        loaded["decode"]


def test_functions_share_equal_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(300, 300).eval()
    one = compiled(layer, torch.randn(4, 300))
    other = compiled(torch.nn.Sequential(layer, torch.nn.ReLU()), torch.randn(1, 300))
    ferrule.save(tmp_path / "two.ferrule", {"many": one, "few": other}, HERE[:1])
    loaded = load(tmp_path / "two.ferrule")
    assert (tmp_path / "two.ferrule").stat().st_size < 1.5 * 300 * 300 * 4
    x = np.random.default_rng(0).standard_normal((4, 300)).astype("f4")
    wanted = np.maximum(loaded(x)[:1], 0)
    np.testing.assert_allclose(loaded["few"](x[:1]), wanted, rtol=1e-4, atol=1e-5)
    assert list(loaded.functions) == ["many", "few"]


def test_equal_functions_share_their_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    several = {name: compiled(torch.nn.Linear(9, 5).eval(), torch.randn(4, 9)) for name in "ab"}
    ferrule.save(tmp_path / "two.ferrule", several, HERE[:1])
    loaded, x = load(tmp_path / "two.ferrule"), np.ones((4, 9), "f4")
    for name, model in several.items():
        wanted = model(torch.from_numpy(x)).detach()
        np.testing.assert_allclose(loaded[name](x), wanted, rtol=1e-4, atol=1e-5)


def test_bf16_and_other_layouts(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = torch.nn.Linear(16, 4).bfloat16().eval()
    x = torch.randn(3, 16).bfloat16()
    compiled(model, x).save(tmp_path / "b.ferrule", HERE[:1])
    found = load(tmp_path / "b.ferrule")(x.view(torch.uint16).numpy())
    wanted = model(x).detach().float().numpy()
    np.testing.assert_allclose((found.astype("u4") << 16).view("f4"), wanted, rtol=2e-2, atol=1e-2)
    image = torch.randn(2, 3, 8, 6).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(3, 5, 3).eval()
    made = compiled(conv, image)
    made.save(tmp_path / "c.ferrule", HERE[:1])
    found = load(tmp_path / "c.ferrule")(image.contiguous().numpy())
    np.testing.assert_allclose(found, made(image).detach(), rtol=1e-4, atol=1e-5)


def test_what_a_framework_runs_is_refused_by_name(tmp_path: Path) -> None:
    class Factors(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.qr(x * 2)[0]

    model = compiled(Factors(), torch.randn(4, 4))
    with pytest.raises(UnsupportedError, match="qr"):
        model.save(tmp_path / "no.ferrule", HERE[:1])
    assert list(tmp_path.iterdir()) == []


def test_targets_and_places_that_are_none(saved: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vax"):
        saved[1].save(tmp_path / "x.ferrule", ["vax"])
    with pytest.raises(InputError, match="cannot be written"):
        saved[1].save(tmp_path / "none" / "x.ferrule", HERE[:1])
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "none.ferrule")
    with pytest.raises(InputError, match="expected what ferrule"):
        ferrule.save(tmp_path / "x.ferrule", 3)


def onnx_model() -> Any:
    """y = relu(x w + b) for a symbolic batch; `fixed` is always the same."""
    h, t = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 4)).astype("f4")
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["v"]), h.make_node("Add", ["v", "b"], ["u"]),
        h.make_node("Relu", ["u"], ["y"]), h.make_node("Neg", ["b"], ["fixed"]),
    ]  # fmt: skip
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info("x", t.FLOAT, ["n", 6])],
        [h.make_tensor_value_info("y", t.FLOAT, ["n", 4]),
         h.make_tensor_value_info("fixed", t.FLOAT, [4])],
        [onnx.numpy_helper.from_array(w, "w"),
         onnx.numpy_helper.from_array(np.arange(4, dtype="f4"), "b")],
    )  # fmt: skip
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])


def test_onnx_models_by_the_names_of_their_ports(tmp_path: Path) -> None:
    session = ferrule.InferenceSession(onnx_model())
    session.save(tmp_path / "o.ferrule", HERE)
    loaded = load(tmp_path / "o.ferrule")
    assert (loaded.inputs, loaded.outputs) == (("x",), ("y", "fixed"))
    for n in (1, 5):
        x = np.random.default_rng(n).standard_normal((n, 6)).astype("f4")
        for found, expected in zip(loaded(x), session.run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_command_line_builds_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ferrule.cli.main import main

    onnx.save(onnx_model(), tmp_path / "o.onnx")
    target = ",".join(HERE)
    assert main(["build", str(tmp_path / "o.onnx"), "--target", target]) == 0
    assert (tmp_path / "o.ferrule").is_file()
    assert "o.ferrule: " in capsys.readouterr().out
    assert main(["run", str(tmp_path / "o.ferrule"), "--random"]) == 0
    out = capsys.readouterr().out
    assert "output y: float32 [1, 4]" in out
    assert "output fixed: float32 [4]; min -3, max" in out
    assert main(["build", str(tmp_path / "o.onnx"), "--target", "vax"]) == 1
    bundle = tmp_path / "o_c"
    command = ["build", str(tmp_path / "o.onnx"), "--target", target, "--c-bundle", str(bundle)]
    assert main(command) == 0
    assert {"main.c", "CMakeLists.txt"} < {f.name for f in bundle.iterdir()}


def test_code_is_unmapped_with_the_last_of_its_models(saved: tuple[Path, Any]) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:")

    load(saved[0])  # the first library of a process may stay, for its thread pool
    gc.collect()
    before = mapped()
    several = [load(saved[0]) for _ in range(3)]
    assert mapped() > before
    x, scale = images(2)
    results = [m(x, scale)[0] for m in several]
    np.testing.assert_array_equal(results[0], results[2])
    del several
    gc.collect()
    assert mapped() == before


class Turned(torch.nn.Module):
    """Results in another order than they are made, one of them channels-last."""

    def forward(self, x: Any) -> Any:
        y = x * 2
        return y.mean((2, 3)), y


def test_each_result_has_its_own_order_in_memory(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    compiled(Turned(), x).save(tmp_path / "turned.ferrule", HERE)
    mean, y = load(tmp_path / "turned.ferrule")(x.numpy())
    np.testing.assert_array_equal(y, x.numpy() * 2)
    np.testing.assert_allclose(mean, x.numpy().mean((2, 3)) * 2, rtol=1e-5)
