"""Damaged models: each must load or raise a FerruleError, in bounded time and memory.

    python -m tests.onnx.fuzz --n 2000 --seed 0        the long run; 1 where a case failed

A case is a model and one mutation of its bytes or its fields, both chosen by the case's number.
Cases run in processes with a limit of memory; one that ends its process or takes too long is
found, told of, and the rest goes on. Models are small ones made here, and the pretrained ones of
`tools.onnx_models` that are there. Small ones are also run; of the others nothing is compiled.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ferrule.api.session import InferenceSession, read_model
from ferrule.base.errors import FerruleError
from ferrule.frontend.onnx.model import Port
from tests.onnx.tools import body, model, node
from tools.onnx_models import MODELS

SECONDS = 60  # for one case
BYTES = 6 << 30
LARGEST = 1 << 20  # elements of an input that a model is run with
REAL_BYTES = 16 << 20  # of the largest pretrained model: reading it takes a part of a second
F, I = np.float32, np.int64

Mutation = Callable[[random.Random, onnx.ModelProto], None]


# ---- models --------------------------------------------------------------------------------------


def _network() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c one zero zero one", "n"),
        node("Relu", "n", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Reshape", "g shape", "f"),
        node("Gemm", "f v b", "y", transB=1),
    ]
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(F), "one": np.ones(4, F),
        "zero": np.zeros(4, F), "shape": np.array([0, -1]), "b": np.zeros(5, F),
        "v": rng.standard_normal((5, 4)).astype(F),
    }  # fmt: skip
    return model(nodes, {"x": (F, ["batch", 3, 8, 8])}, ["y"], constants)


def _indices() -> onnx.ModelProto:
    nodes = [
        node("Gather", "table ids", "e"),
        node("ReduceMean", "e axes", "m", keepdims=0),
        node("Slice", "m starts ends", "s"),
        node("Concat", "s s", "t", axis=1),
        node("Softmax", "t", "y"),
    ]
    constants = {
        "table": np.ones((10, 6), F), "axes": np.array([1]), "starts": np.array([0]),
        "ends": np.array([2]),
    }  # fmt: skip
    return model(nodes, {"ids": (I, [2, 3])}, ["y"], constants)


def _control() -> onnx.ModelProto:
    step = body([node("Add", "s x", "t"), node("Identity", "t", "u")],
                {"s": (F, [2]), "x": (F, [2])}, {"t": (F, [2]), "u": (F, [2])})  # fmt: skip
    yes = body([node("Neg", "last", "a")], {}, {"a": (F, [2])})
    no = body([node("Abs", "last", "b")], {}, {"b": (F, [2])})
    nodes = [
        node("Scan", "start xs", "last all", body=step, num_scan_inputs=1),
        node("LSTM", "seq w r", "h", hidden_size=4),
        node("If", "flag", "y", then_branch=yes, else_branch=no),
    ]
    inputs = {"xs": (F, [3, 2]), "start": (F, [2]), "flag": (np.bool_, []), "seq": (F, [5, 1, 3])}
    constants = {"w": np.ones((1, 16, 3), F), "r": np.ones((1, 16, 4), F)}
    return model(nodes, inputs, ["y", "all", "h"], constants)


@cache
def _models() -> list[tuple[bytes, bool]]:
    """The bytes of each model, and whether it is small enough to be run."""
    small = [(m().SerializeToString(), True) for m in (_network, _indices, _control)]
    files = dict.fromkeys(m.path for m in MODELS if m.path.is_file())
    real = [f.read_bytes() for f in files if f.stat().st_size <= REAL_BYTES]
    return [*small, *((data, False) for data in real)]


# ---- mutations -----------------------------------------------------------------------------------


def _truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 64))):
        out[rng.randrange(min(len(out), rng.choice((200, len(out)))))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _blanked(rng: random.Random, data: bytes) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice((1, 16, 256))
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def _nodes(m: onnx.ModelProto) -> Any:
    return m.graph.node


def _wrong_operator(rng: random.Random, m: onnx.ModelProto) -> None:
    rng.choice(_nodes(m)).op_type = rng.choice(("Nothing", "", "Loop", "Concat", "LSTM", "Einsum"))


def _wrong_domain(rng: random.Random, m: onnx.ModelProto) -> None:
    rng.choice(_nodes(m)).domain = rng.choice(("somebody.else", "com.microsoft", "ferrule"))


def _cycle(rng: random.Random, m: onnx.ModelProto) -> None:
    n, last = rng.choice(_nodes(m)), _nodes(m)[-1]
    if n.input and last.output:
        n.input[rng.randrange(len(n.input))] = last.output[0]


def _missing_value(rng: random.Random, m: onnx.ModelProto) -> None:
    n = rng.choice(_nodes(m))
    if n.input:
        n.input[rng.randrange(len(n.input))] = rng.choice(("", "nobody made this"))


def _fewer_operands(rng: random.Random, m: onnx.ModelProto) -> None:
    n = rng.choice(_nodes(m))
    del n.input[rng.randrange(len(n.input) + 1) :]


def _more_operands(rng: random.Random, m: onnx.ModelProto) -> None:
    n = rng.choice(_nodes(m))
    n.input.extend(list(n.input) * 3)


def _twice(rng: random.Random, m: onnx.ModelProto) -> None:
    m.graph.node.add().CopyFrom(rng.choice(_nodes(m)))


def _no_attributes(rng: random.Random, m: onnx.ModelProto) -> None:
    del rng.choice(_nodes(m)).attribute[:]


def _wrong_attribute(rng: random.Random, m: onnx.ModelProto) -> None:
    having = [n for n in _nodes(m) if n.attribute]
    if having:
        a = rng.choice(rng.choice(having).attribute)
        a.type = rng.randrange(15)
        a.i = rng.choice((-1, 0, 1 << 40, -(1 << 63)))
        a.ints.extend(rng.choices((0, -1, 1 << 40, 3), k=rng.randrange(4)))


def _wrong_size(rng: random.Random, m: onnx.ModelProto) -> None:
    size = rng.choice((0, -1, 1 << 40, (1 << 63) - 1, 7))
    having = [t for t in m.graph.initializer if t.dims]
    if having and rng.random() < 0.5:
        t = rng.choice(having)
        t.dims[rng.randrange(len(t.dims))] = size
        return
    shaped = [p for p in m.graph.input if p.type.tensor_type.shape.dim]
    if shaped:
        rng.choice(rng.choice(shaped).type.tensor_type.shape.dim).dim_value = size


def _wrong_dtype(rng: random.Random, m: onnx.ModelProto) -> None:
    code = rng.randrange(30)
    if m.graph.initializer and rng.random() < 0.5:
        rng.choice(m.graph.initializer).data_type = code
    elif m.graph.input:
        rng.choice(m.graph.input).type.tensor_type.elem_type = code


def _no_data(rng: random.Random, m: onnx.ModelProto) -> None:
    if m.graph.initializer:
        rng.choice(m.graph.initializer).ClearField("raw_data")


def _outside(rng: random.Random, m: onnx.ModelProto) -> None:
    if m.graph.initializer:
        t = rng.choice(m.graph.initializer)
        t.ClearField("raw_data")
        t.data_location = TensorProto.EXTERNAL
        where = rng.choice(("../../etc/passwd", "/etc/passwd", "weights.bin", ""))
        for key, value in (("location", where), ("offset", "-4"), ("length", str(1 << 50))):
            entry = t.external_data.add()
            entry.key, entry.value = key, value


def _wrong_version(rng: random.Random, m: onnx.ModelProto) -> None:
    if m.opset_import and rng.random() < 0.7:
        m.opset_import[0].version = rng.choice((0, -1, 1, 5, 9999, 1 << 40))
    else:
        del m.opset_import[:]


def _no_ports(rng: random.Random, m: onnx.ModelProto) -> None:
    del getattr(m.graph, rng.choice(("input", "output", "initializer", "node")))[:]


BYTES_OF = (_truncated, _flipped, _blanked)
FIELDS: tuple[Mutation, ...] = (
    _wrong_operator, _wrong_domain, _cycle, _missing_value, _fewer_operands, _more_operands, _twice,
    _no_attributes, _wrong_attribute, _wrong_size, _wrong_dtype, _no_data, _outside, _wrong_version,
    _no_ports,
)  # fmt: skip


def case(number: int) -> tuple[str, bytes, bool]:
    """(what was done, the damaged model, whether it is to be run)."""
    rng = random.Random(number)
    data, small = _models()[number % len(_models())]
    if rng.random() < 0.3:
        damage = rng.choice(BYTES_OF)
        return damage.__name__, damage(rng, data), small
    proto = onnx.load_from_string(data)
    several = rng.choices(FIELDS, k=rng.choice((1, 1, 2)))
    for change in several:
        if proto.graph.node:
            change(rng, proto)
    try:
        return "+".join(c.__name__ for c in several), proto.SerializeToString(), small
    except ValueError:  # a text that is no UTF-8, from a mutation before
        return "nothing", data, small


# ---- running them --------------------------------------------------------------------------------


def survives(number: int) -> str:
    """How a case ended. Raises what is no FerruleError."""
    what, data, small = case(number)
    try:
        if small:
            session = InferenceSession(data)
            session.run(None, {p.name: _array(p) for p in session.get_inputs()})
        else:
            read_model(data)
    except FerruleError as error:
        return f"{what}: refused: {str(error).splitlines()[0][:100]}"
    return f"{what}: accepted"


def _array(port: Port) -> Any:
    """Zeros for an input. Raises FerruleError for one that is no tensor of a sensible size."""
    if port.dtype is None or port.shape is None:
        raise FerruleError(f"{port.name} has no shape")
    shape = [s if isinstance(s, int) else 1 for s in port.shape]
    if math.prod(shape) > LARGEST or min(shape, default=0) < 0:
        raise FerruleError(f"{port.name} is too large for this test")
    return np.zeros(shape, port.dtype)


def run(numbers: Sequence[int], show: Callable[[str], None] = print) -> list[str]:
    """What went wrong in these cases, each in a few words."""
    failed: list[str] = []
    waiting = list(numbers)
    while waiting:
        done, ended = _child(waiting, show)
        waiting = waiting[len(done) :]
        failed += [line for line in done if "FAILED" in line]
        if waiting:
            failed.append(f"{waiting[0]} {case(waiting[0])[0]}: {ended}")
            show(failed[-1])
            waiting = waiting[1:]
    return failed


def _child(numbers: Sequence[int], show: Callable[[str], None]) -> tuple[list[str], str]:
    """The lines of a process that works on these cases as far as it comes, and how it ended."""
    command = [sys.executable, "-m", "tests.onnx.fuzz", "--cases", *map(str, numbers)]
    root = Path(__file__).resolve().parents[2]
    done: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("case "):
                done.append(line.strip())
                show(done[-1])
    return done, f"the process ended with status {process.returncode}"


def _work(numbers: Sequence[int]) -> None:
    """In the child: each case within its time, in limited memory."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    for number in numbers:
        signal.alarm(SECONDS)  # ends the process
        try:
            ended = survives(number)
        except BaseException as error:
            ended = f"FAILED: {type(error).__name__}: {str(error)[:300]}"
        print(f"case {number} {ended}".replace("\n", " "), flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; 1 where a case failed."""
    parser = argparse.ArgumentParser(description="damaged ONNX models")
    parser.add_argument("--n", type=int, default=200, help="the number of cases")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first")
    parser.add_argument("--cases", type=int, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cases is not None:
        _work(options.cases)
        return 0
    failed = run(range(options.seed, options.seed + options.n))
    print(f"{options.n} cases, {len(failed)} failed", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
