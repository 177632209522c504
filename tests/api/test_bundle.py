"""C bundles: what a C program computes is what Python computes, and whatever else it gives is
refused with a code and a message.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.base.cpu import architecture, supports
from ferrule.base.errors import InputError
from ferrule.codegen.link.read import UNDEFINED, read_object
from ferrule.target.cpu import PORTABLE
from tests.api.clibrary import (
    KERNEL,
    PARALLEL,
    CLibrary,
    DLTensor,
    Failed,
    Options,
    built,
    members,
    outcome,
    sizes,
    tensor,
    tensors,
)

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are ELF"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HERE = [t for t, (m, level) in PORTABLE.items() if m == architecture() and supports(level)]
PLAIN = [t for t in HERE if t != "x86-64-v4"]  # valgrind knows no AVX-512
GCC = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(32, 96), torch.nn.Linear(32, 32)

    def forward(self, x: Any) -> Any:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 4, 8).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, n, 32))


class Conv(torch.nn.Module):
    """A result in bytes too, one that is fixed, and one twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 3)

    def forward(self, x: Any) -> Any:
        y = self.two(torch.relu(self.one(x)))
        return y, y.flatten(1).argmax(-1), y > 0


def mlp() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))


def made(module: Any, *inputs: Any, **options: Any) -> Any:
    torch.manual_seed(1)
    return ferrule.compile(module.eval(), inputs, **options)


def bytes_model() -> bytes:
    """A product of bytes, of an unknown number of rows, and the embedding of its indices."""
    h, rng = onnx.helper, np.random.default_rng(5)
    kinds = onnx.TensorProto
    w = onnx.numpy_helper.from_array(rng.integers(-128, 127, (40, 24)).astype("i1"), "w")
    table = onnx.numpy_helper.from_array(rng.standard_normal((7, 3)).astype("f4"), "table")
    nodes = [
        h.make_node("MatMulInteger", ["x", "w"], ["y"]),
        h.make_node("Gather", ["table", "i"], ["e"]),
    ]
    graph = h.make_graph(
        nodes, "bytes",
        [h.make_tensor_value_info("x", kinds.UINT8, ["n", 40]),
         h.make_tensor_value_info("i", kinds.INT64, ["n"])],
        [h.make_tensor_value_info("y", kinds.INT32, ["n", 24]),
         h.make_tensor_value_info("e", kinds.FLOAT, ["n", 3])],
        [w, table],
    )  # fmt: skip
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


BATCH = torch.export.Dim("n", min=2, max=64)


def models() -> dict[str, tuple[Any, list[Any]]]:
    rng = np.random.default_rng(2)
    f = lambda *shape: rng.standard_normal(shape).astype("f4")  # noqa: E731
    t = torch.randn
    conv = t(2, 3, 12, 12).to(memory_format=torch.channels_last)
    hwc = np.ascontiguousarray(f(2, 3, 12, 12).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    sizes_of = {"dynamic_shapes": ({0: BATCH},)}
    attention = {"dynamic_shapes": ({0: BATCH, 1: torch.export.Dim("m", min=2, max=99)},)}
    return {
        "mlp": (made(mlp(), t(4, 64), **sizes_of), [[f(2, 64)], [f(33, 64)]]),
        "conv": (made(Conv(), t(2, 3, 12, 12)), [[f(2, 3, 12, 12)]]),
        "conv_last": (made(Conv(), conv), [[hwc]]),
        "attention": (made(Attention(), t(3, 16, 32), **attention), [[f(5, 33, 32)]]),
        "bytes": (
            ferrule.compile(bytes_model()),
            [[rng.integers(0, 255, (n, 40)).astype("u1"), rng.integers(0, 6, n)] for n in (1, 9)],
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, list[Any]]]:
    """Bundles of models for all levels that run here, the artifacts of the same, and inputs."""
    base, found = tmp_path_factory.mktemp("bundles"), {}
    for name, (model, calls) in models().items():
        model.bundle(base / name, HERE)
        model.save(base / f"{name}.ferrule", HERE)
        found[name] = base / name, ferrule.load(base / f"{name}.ferrule"), calls
    return found


@pytest.fixture(scope="module")
def plain(bundles: Any) -> tuple[CLibrary, Any]:
    """The multilayer perceptron, with a model."""
    library = CLibrary(bundles["mlp"][0])
    return library, library.create(options=Options(ctypes.sizeof(Options), 2))


def same(ours: Any, theirs: Any) -> None:
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize("name", ["mlp", "conv", "conv_last", "attention", "bytes"])
@pytest.mark.slow
def test_a_c_program_computes_what_python_does(bundles: Any, name: str) -> None:
    folder, model, calls = bundles[name]
    library = CLibrary(folder)
    handle = library.create()
    assert library.level(handle) == HERE[-1]
    for inputs in calls:
        same(library.run(handle, inputs), model(*inputs))
    library.destroy(handle)


def test_specs_tell_what_inputs_are(bundles: Any) -> None:
    (x,), (y,) = (CLibrary(bundles["mlp"][0]).specs(r) for r in ("input", "output"))
    assert (x.name, x.shape[:2], x.dtype) == (b"input", [-1, 64], np.float32)
    assert (y.name, y.shape[:2], y.ndim, bool(y.order)) == (b"output", [-1, 10], 2, False)
    x, i = CLibrary(bundles["bytes"][0]).specs("input")
    assert (x.name, x.dtype, i.name, i.dtype) == (b"x", np.uint8, b"i", np.int64)
    assert x.text == b"[d_n, 40]"
    (x,) = CLibrary(bundles["conv_last"][0]).specs("input")
    assert x.order[:4] == [0, 2, 3, 1]


def test_weights_may_lie_in_memory(bundles: Any) -> None:
    folder, model, ((x,), *_) = bundles["mlp"]
    library = CLibrary(folder)
    data = library.weights.read_bytes()
    held = (ctypes.c_char * len(data)).from_buffer_copy(data)
    handle = library.create(held)
    same(library.run(handle, [x]), model(x))
    library.destroy(handle)


@pytest.mark.slow
def test_several_functions_share_a_library(tmp_path: Path) -> None:
    first = made(mlp(), torch.randn(4, 64))
    second = made(Attention(), torch.randn(3, 16, 32))
    several = {"first": first, "second": second}
    ferrule.bundle(tmp_path / "two-in one", several, PLAIN)
    ferrule.save(tmp_path / "two.ferrule", several, PLAIN)
    both = ferrule.load(tmp_path / "two.ferrule")
    (tmp_path / "two-in one").rename(tmp_path / "two_in_one")
    for name, shape in (("first", (4, 64)), ("second", (3, 16, 32))):
        library = CLibrary(tmp_path / "two_in_one", f"two_in_one_{name}")
        handle = library.create()
        x = np.random.default_rng(0).standard_normal(shape).astype("f4")
        same(library.run(handle, [x]), both[name](x))
        library.destroy(handle)


# ---- what is refused -----------------------------------------------------------------------------


def changed(**fields: Any) -> tuple[list[DLTensor], list[DLTensor]]:
    """Tensors that fit the perceptron for 4 rows, but for these fields of the input, or, with
    `out_` before their names, of the output.
    """
    x, y = tensor(np.ones((4, 64), "f4")), tensor(np.zeros((4, 10), "f4"))
    x.held, y.held = fields, None
    keep.append((np.ones((9, 64), "f4"), np.zeros((9, 10), "f4")))
    x.data, y.data = (a.ctypes.data for a in keep[-1])
    for name, value in fields.items():
        t = y if name.startswith("out_") else x
        setattr(t, name.removeprefix("out_"), value)
    return [x], [y]


keep: list[Any] = []


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"ndim": 3}, "RANK", "input input of main has rank 2 [s, 64], not rank 3"),
        ({"ndim": -1}, "RANK", "not rank -1"),
        ({"bits": 64}, "DTYPE", "input input of main has dtype float32, not float64"),
        ({"code": 4, "bits": 16}, "DTYPE", "not bfloat16"),
        ({"code": 6, "bits": 8, "lanes": 4}, "DTYPE", "not bool x 4"),
        ({"device_type": 2}, "DEVICE", "on a device of type 2"),
        ({"data": None}, "NULL", "input input of main has no data"),
        ({"shape": None}, "NULL", "has no shape"),
        ({"shape": sizes([4, 63])}, "SIZE", "axis 1 must be 64, not 63; expected [s, 64] = "
         "[4, 64], got [4, 63]"),
        ({"shape": sizes([4, -64])}, "SIZE", "has a negative size: [4, -64]"),
        ({"shape": sizes([65, 64])}, "RANGE", "axis 0 must be 2 to 64, got 65; expected [s, 64], "
         "got [65, 64]; compile it again for this size"),
        ({"shape": sizes([1 << 62, 64])}, "RANGE", "got 4611686018427387904"),
        ({"strides": sizes([65, 1])}, "STRIDES", "is not dense: of sizes [4, 64] and strides "
         "[65, 1] axis 0 should have stride 64"),
        ({"strides": sizes([1, 4])}, "STRIDES", "axis 1 should have stride 1"),
        ({"byte_offset": 2}, "ALIGNMENT", "does not begin at a multiple of 4 bytes"),
        ({"out_ndim": 1}, "RANK", "output output of main has rank 2"),
        ({"out_shape": sizes([3, 10])}, "SIZE", "output output of main: axis 0 must be 4, not 3"),
        ({"out_data": None}, "NULL", "output output of main has no data"),
        ({"out_bits": 16}, "DTYPE", "output output of main has dtype float32, not float16"),
        ({"out_strides": sizes([1, 4])}, "STRIDES", "output output of main is not dense"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_refused(
    plain: Any, fields: dict[str, Any], code: str, words: str
) -> None:
    library, model = plain
    (dim,) = {t.split(b",")[0][1:] for t in [library.specs("input")[0].text]}
    with pytest.raises(Failed) as failed:
        library.run_on(model, *changed(**fields))
    assert failed.value.name == code
    assert words.replace("[s,", f"[{dim.decode()},") in failed.value.message


def test_dense_strides_and_offsets_are_taken(plain: Any, bundles: Any) -> None:
    library, model = plain
    x = np.random.default_rng(7).standard_normal((5, 64)).astype("f4")
    whole, y = np.zeros((6, 10), "f4"), tensor(np.zeros((4, 10), "f4"), strides=True)
    y.data, y.byte_offset = whole.ctypes.data, 40
    given = tensor(x[1:], strides=True)
    given.data, given.byte_offset = x.ctypes.data, 256
    library.run_on(model, [given], [y])
    same([whole[1:5]], bundles["mlp"][1](x[1:]))
    assert not whole[0].any()
    assert not whole[5].any()


def test_null_pointers_are_refused(plain: Any) -> None:
    library, model = plain
    x, y = (tensors(t) for t in changed())
    run = f"{library.name}_run"
    for args, words in (
        ((None, x, y), "the model is null"), ((model, None, y), "the inputs of main are null"),
        ((model, x, None), "the outputs of main are null"),
    ):  # fmt: skip
        with pytest.raises(Failed, match="NULL") as failed:
            library.check(run, *args)
        assert words in failed.value.message
    with pytest.raises(Failed, match="NULL: the outputs of main are null"):
        library.check(f"{library.name}_output_shapes", x, None)
    with pytest.raises(Failed, match="NULL"):
        library.check(f"{library.name}_create", b"x", None, None)
    library.destroy(None)
    assert library.level(None) == ""


def test_row_major_images_are_refused_where_they_lie_otherwise(bundles: Any) -> None:
    library = CLibrary(bundles["conv_last"][0])
    model = library.create()
    with pytest.raises(Failed, match="STRIDES") as failed:
        library.run(model, [np.zeros((2, 3, 12, 12), "f4")])
    assert "dense with its axes in the order [0, 2, 3, 1]" in failed.value.message


def test_sizes_that_differ_and_indices_out_of_range_are_told(bundles: Any) -> None:
    library = CLibrary(bundles["bytes"][0])
    model = library.create()
    x, i = np.zeros((3, 40), "u1"), np.zeros(4, "i8")
    with pytest.raises(Failed, match="SIZE") as failed:
        library.run(model, [x, i])
    assert "input i of main: axis 0 must be 3, not 4; expected [d_n] = [3]" in failed.value.message
    with pytest.raises(Failed, match="INDEX: main: index out of range"):
        library.run(model, [x, np.full(3, 7)])
    assert library.run(model, [x, np.full(3, 6)])[1].shape == (3, 3)


def test_empty_tensors_need_no_memory(tmp_path: Path) -> None:
    made(torch.nn.ReLU(), torch.zeros(0, 40)).bundle(tmp_path / "none", PLAIN)
    library = CLibrary(tmp_path / "none")
    model = library.create(None)
    x, y = tensor(np.zeros((0, 40), "f4")), tensor(np.zeros((0, 40), "f4"))
    x.data = y.data = None
    library.run_on(model, [x], [y])
    assert library.shapes([x]) == [(0, 40)]
    library.destroy(model)
    if shutil.which("gcc"):
        assert outcome([built(tmp_path / "none", "none", True)], tmp_path).returncode == 0


def test_a_guard_that_fails_is_told(tmp_path: Path) -> None:
    class Halves(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x.reshape(x.shape[0] // 2, 2, 4).sum(1) + y

    n = torch.export.Dim("n", min=1, max=50)
    shapes = ({0: 2 * n}, {0: n})
    model = made(Halves(), torch.randn(6, 4), torch.randn(3, 4), dynamic_shapes=shapes)
    model.bundle(tmp_path / "halves", PLAIN)
    model.save(tmp_path / "halves.ferrule", PLAIN)
    same_model, library = ferrule.load(tmp_path / "halves.ferrule"), CLibrary(tmp_path / "halves")
    handle = library.create()
    for a, b in ((10, 5), (11, 5), (10, 6), (0, 0), (200, 100)):
        arrays = [np.ones((a, 4), "f4"), np.ones((b, 4), "f4")]
        if (a, b) == (10, 5):
            same(library.run(handle, arrays), same_model(*arrays))
            continue
        with pytest.raises(Failed, match=r"SIZE|RANGE"):
            library.run(handle, arrays)
        with pytest.raises(ferrule.FerruleError):
            same_model(*arrays)


def test_weights_that_are_not_the_models_are_refused(bundles: Any, tmp_path: Path) -> None:
    library = CLibrary(bundles["mlp"][0])
    data = bytearray(library.weights.read_bytes())
    with pytest.raises(Failed, match=r"FILE: .*cannot be opened \(errno 2\)"):
        library.create(tmp_path / "none")
    with pytest.raises(Failed, match="FILE"):
        library.create(tmp_path / ("x" * 4000))
    with pytest.raises(Failed, match="NULL: mlp has weights"):
        library.create(None)
    for name, wrong in (("short", data[:-1]), ("other", data[:9] + b"?" + data[10:])):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(Failed, match="WEIGHTS"):
            library.create(tmp_path / name)
        with pytest.raises(Failed, match="WEIGHTS"):
            library.create((ctypes.c_char * len(wrong)).from_buffer_copy(wrong))


def test_options_out_of_range_are_refused(plain: Any) -> None:
    library, _ = plain
    size = ctypes.sizeof(Options)
    for options in (Options(size, 65), Options(size, -1), Options(size - 1, 1), Options(0, 1)):
        with pytest.raises(Failed, match="OPTIONS"):
            library.create(options=options)


def test_targets_of_two_architectures_are_refused(tmp_path: Path) -> None:
    model = made(mlp(), torch.randn(4, 64))
    with pytest.raises(InputError, match="one architecture"):
        model.bundle(tmp_path / "both", ["x86-64", "aarch64"])
    with pytest.raises(InputError, match="vax"):
        model.bundle(tmp_path / "none", ["vax"])
    assert not (tmp_path / "both").exists()


def test_functions_of_one_name_in_c_are_refused(tmp_path: Path) -> None:
    model = made(mlp(), torch.randn(4, 64))
    with pytest.raises(InputError, match="two functions have one name in C"):
        ferrule.bundle(tmp_path / "both", {"a.b": model, "a_b": model}, HERE[:1])
    assert not (tmp_path / "both").exists()


# ---- threads -------------------------------------------------------------------------------------


def test_eight_threads_call_one_model(plain: Any, bundles: Any) -> None:
    library, model = plain
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for k in range(60):
            x = rng.standard_normal((2 + (seed * 7 + k) % 60, 64)).astype("f4")
            (y,) = library.run(model, [x])
            if y.tobytes() != bundles["mlp"][1](x).tobytes():
                wrong.append((seed, k))
            try:
                library.run_on(model, *changed(ndim=90 + seed))
            except Failed as failed:
                if f"not rank {90 + seed}" not in failed.message:
                    wrong.append(failed.message)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_users_parallel_is_called(bundles: Any) -> None:
    seen = []

    def parallel(kernel: int, context: int, n: int, threads: int, user: int) -> None:
        seen.append((n, threads, user))
        run = KERNEL(kernel)
        for i in range(n):
            run(context, n - 1 - i, n - i, i % threads)

    folder, model, _ = bundles["attention"]
    library = CLibrary(folder)
    ours = PARALLEL(parallel)
    handle = library.create(options=Options(ctypes.sizeof(Options), 3, ours, 77))
    x = np.random.default_rng(4).standard_normal((40, 64, 32)).astype("f4")
    same(library.run(handle, [x]), model(x))
    assert seen
    assert all(n > 0 and 1 < threads <= 3 and user == 77 for n, threads, user in seen)
    library.destroy(handle)


# ---- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "conv", "attention", "bytes"])
def test_programs_import_nothing(bundles: Any, name: str) -> None:
    folder, *_ = bundles[name]
    objects = members(folder / f"lib{name}.a")
    programs = [code for n, code in objects.items() if n.startswith("program")]
    assert len(programs) == len(HERE)
    for code in programs:
        wanted = [s.name for s in read_object(code).symbols if s.section == UNDEFINED and s.name]
        assert wanted == []


def test_equal_models_give_equal_files(bundles: Any, tmp_path: Path) -> None:
    model, _ = models()["conv"]
    for name in ("a", "b"):
        model.bundle(tmp_path / name / "conv", PLAIN)
    for file in (tmp_path / "a" / "conv").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "conv" / file.name).read_bytes()


def test_a_library_for_another_architecture_is_made_here(tmp_path: Path) -> None:
    other = "aarch64" if architecture() == "x86_64" else "x86-64"
    made(mlp(), torch.randn(4, 64)).bundle(tmp_path / "other", [other])
    machine = {"aarch64": 183, "x86-64": 62}[other]
    assert (tmp_path / "other" / "libother.so").read_bytes()[18] == machine
    for code in members(tmp_path / "other" / "libother.a").values():
        assert read_object(code).machine == machine


@GCC
@pytest.mark.parametrize("name", ["mlp", "conv_last", "attention", "bytes"])
def test_the_example_runs(bundles: Any, name: str) -> None:
    folder, *_ = bundles[name]
    weights = f"{name}.safetensors"
    shared = outcome([built(folder, name, False), weights], folder)
    static = outcome([built(folder, name, True), weights], folder)
    assert (shared.returncode, shared.stderr) == (0, "")
    assert static.stdout == shared.stdout
    assert shared.stdout.startswith(f"{name} on {HERE[-1]}\n")
    failed = outcome([folder / "main-shared", "absent"], folder)
    assert failed.returncode == 1
    assert "the weights absent cannot be opened" in failed.stderr


@GCC
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu")
@pytest.mark.skipif("x86-64-v3" not in HERE, reason="needs AVX2")
def test_one_library_serves_old_and_new_cpus(bundles: Any) -> None:
    folder, *_ = bundles["attention"]
    main, lines = built(folder, "attention", True), {}
    cpus = {"Nehalem": "x86-64", "Haswell": "x86-64-v3", "max": "x86-64-v3"}
    for cpu, level in cpus.items():
        done = outcome(["qemu-x86_64", "-cpu", cpu, main, "attention.safetensors"], folder)
        assert done.returncode == 0
        first, lines[cpu] = done.stdout.split("\n", 1)
        assert first == f"attention on {level}"
    assert lines["Haswell"] == lines["max"]


@GCC
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu")
@pytest.mark.skipif("x86-64-v3" not in HERE, reason="needs AVX2")
def test_a_cpu_without_the_levels_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "modern"
    made(mlp(), torch.randn(4, 64)).bundle(folder, ["x86-64-v3"])
    main = built(folder, "modern", True)
    done = outcome(["qemu-x86_64", "-cpu", "Nehalem", main, "modern.safetensors"], folder)
    assert done.returncode == 1
    assert "modern was compiled for x86-64-v3, and this CPU lacks what these need" in done.stderr


DRIVER = Path(__file__).parent / "bundle_driver.c"


@GCC
@pytest.mark.parametrize("tool", ["valgrind", "address"])
@pytest.mark.slow
def test_tools_find_no_fault_in_memory(tmp_path: Path, tool: str) -> None:
    """Calls of all kinds, by 8 threads at once, models made and destroyed."""
    if tool == "valgrind" and shutil.which("valgrind") is None:
        pytest.skip("needs valgrind")
    folder = tmp_path / "mlp"
    made(mlp(), torch.randn(4, 64), dynamic_shapes=({0: BATCH},)).bundle(folder, PLAIN)
    shutil.copy(DRIVER, folder)
    flags = ["-g", *([] if tool == "valgrind" else [f"-fsanitize={tool}"])]
    main = built(folder, "mlp", False, *flags, source=DRIVER.name)
    command: list[Any] = [main, "mlp.safetensors"]
    if tool == "valgrind":
        checks = ["--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]
        command = ["valgrind", "-q", *checks, *command]
    done = outcome(command, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all well\n"


RUST = """
use std::ffi::{c_char, c_int, c_void, CString};
extern "C" {
    fn mlp_create(path: *const c_char, options: *const c_void, out: *mut *mut c_void) -> c_int;
    fn mlp_run(model: *mut c_void, inputs: *const Tensor, outputs: *mut Tensor) -> c_int;
    fn mlp_destroy(model: *mut c_void);
}
#[repr(C)]
struct Tensor {
    data: *mut c_void, device: [i32; 2], ndim: i32, code: u8, bits: u8, lanes: u16,
    shape: *mut i64, strides: *mut i64, offset: u64,
}
fn tensor(data: &mut [f32], shape: &mut [i64]) -> Tensor {
    Tensor { data: data.as_mut_ptr() as *mut c_void, device: [1, 0], ndim: shape.len() as i32,
             code: 2, bits: 32, lanes: 1, shape: shape.as_mut_ptr(),
             strides: std::ptr::null_mut(), offset: 0 }
}
fn main() {
    let path = CString::new(std::env::args().nth(1).unwrap()).unwrap();
    let mut model = std::ptr::null_mut();
    let (mut x, mut y) = (vec![0.5f32; 4 * 64], vec![0f32; 4 * 10]);
    let (mut a, mut b) = ([4i64, 64], [4i64, 10]);
    unsafe {
        assert_eq!(mlp_create(path.as_ptr(), std::ptr::null(), &mut model), 0);
        assert_eq!(mlp_run(model, &tensor(&mut x, &mut a), &mut tensor(&mut y, &mut b)), 0);
        assert_eq!(mlp_run(model, std::ptr::null(), &mut tensor(&mut y, &mut b)), 1);
        mlp_destroy(model);
    }
    for v in y { println!("{:08x}", v.to_bits()); }
}
"""


@pytest.mark.skipif(shutil.which("rustc") is None, reason="needs rustc")
def test_rust_calls_it(bundles: Any) -> None:
    folder, model, _ = bundles["mlp"]
    (folder / "main.rs").write_text(RUST)
    command = ["rustc", "main.rs", "-L.", "-lmlp", "-C", "link-arg=-Wl,-rpath,$ORIGIN", "-o", "r"]
    done = outcome(command, folder)
    assert done.returncode == 0, done.stderr
    done = outcome(["./r", "mlp.safetensors"], folder)
    assert done.returncode == 0, done.stderr
    bits = np.array([int(line, 16) for line in done.stdout.split()], "u4")
    same([bits.view("f4").reshape(4, 10)], model(np.full((4, 64), 0.5, "f4")))
