"""Damaged and foreign files: one error that says where, or a model; never a crash or a hang."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.api.saved_model import read_saved
from ferrule.base.errors import FerruleError, InputError, ParseError, UnsupportedError
from ferrule.frontend.tensorflow.convert import convert
from ferrule.frontend.tflite.model import Lite, Operator, SubGraph, Tensor
from ferrule.frontend.tflite.program import program_of
from ferrule.frontend.tflite.read import is_lite, read_lite
from ferrule.frontend.tflite.rules import LITE
from tests.frontend.tflite.programs import model
from tests.long import LONG


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with bytes changed, a part cut out, a part twice, or a number replaced."""
    at, kind = int(rng.integers(8, len(data))), rng.integers(4)
    if kind == 0:
        return data[:at] + bytes([rng.integers(256)]) + data[at + 1 :]
    if kind == 1:
        at -= at % 4
        number = rng.choice([0, 1, -1, 1 << 30, -(1 << 31), len(data), 0x7FFFFFFF])
        return data[:at] + struct.pack("<i", number) + data[at + 4 :]
    n = int(rng.integers(1, 40))
    if kind == 2:
        return data[:at] + data[at + n :]
    return data[:at] + data[at : at + n] * 2 + data[at + n :]


@pytest.mark.parametrize("name", ["cnn_int8", "dense_dynamic", "while_counted_float", "lstm_float"])
def test_a_damaged_file_is_refused_or_read(name: str) -> None:
    whole, rng, refused = model(name), np.random.default_rng(0), 0
    for _ in range(80 * LONG):
        try:
            saved = read_saved(damaged(whole, rng))
            if saved is not None:
                convert(saved.program, saved.signature, saved.array, "main", LITE)
        except FerruleError as error:
            refused += bool(str(error))
    assert refused > 15


@pytest.mark.parametrize("share", [0.002, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_malformed(share: float, tmp_path: Path) -> None:
    whole = model("cnn_float")
    file = tmp_path / "m.tflite"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ParseError, match=r"m.tflite: byte \d+: "):
        read_lite(file)


def test_tables_that_are_named_again_and_again_cost_no_more_than_the_file() -> None:
    """A vector of subgraphs that are all the same, each with all of the file as its tensors."""
    whole = bytearray(model("cnn_float"))
    root = struct.unpack_from("<i", whole)[0]
    vtable = root - struct.unpack_from("<i", whole, root)[0]
    field = root + struct.unpack_from("<H", whole, vtable + 4 + 2 * 2)[0]
    vector = field + struct.unpack_from("<I", whole, field)[0]
    first = vector + 4 + struct.unpack_from("<I", whole, vector + 4)[0]
    count, at = 100_000, len(whole)
    whole += b"\0" * 4 * (count + 1)
    struct.pack_into("<I", whole, at, count)
    struct.pack_into("<I", whole, field, at - field)
    for k in range(count):
        place = at + 4 + 4 * k
        struct.pack_into("<I", whole, place, (first - place) % (1 << 32))
    with pytest.raises(ParseError, match=r"byte \d+: "):
        read_lite(bytes(whole))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "byte 4: no TensorFlow Lite file"), (b"\x08\0\0\0TFL3", "byte "),
        (b"\xff\xff\xff\xffTFL3", "a table that points out of the file"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_the_kind_is_refused(data: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(data)
    with pytest.raises(ParseError, match=told):
        ferrule.InferenceSession(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert not is_lite(tmp_path / "none.tflite")
    with pytest.raises(InputError, match=r"none\.tflite"):
        read_lite(tmp_path / "none.tflite")


def lite(*operators: Operator, **tensors: Any) -> Lite:
    """A model of f32 tensors of these shapes: the first is its input, the last its output."""
    held = tuple(Tensor(name, "FLOAT32", shape) for name, shape in tensors.items())
    return Lite((SubGraph("main", held, (0,), (len(held) - 1,), operators),))


def test_all_operators_that_ferrule_lacks_are_told() -> None:
    wanted = r"no meaning for CUSTOM\.Mine, NON_MAX_SUPPRESSION_V4, SVDF \(2\)"
    kinds = ("SVDF", "CUSTOM.Mine", "SVDF", "NON_MAX_SUPPRESSION_V4")
    with pytest.raises(UnsupportedError, match=wanted):
        program_of(lite(*(Operator(n, (0,), (1,)) for n in kinds), x=(2,), y=(2,)))


@pytest.mark.parametrize(
    ("op", "told"),
    [
        (Operator("ADD", (0,), (1,)), "ADD, operator 0 of subgraph0, does not fit"),
        (Operator("ADD", (0, 0), (1,), {"fused_activation_function": 9}), "is 9, which is none"),
        (Operator("WHILE", (0,), (1,), {"cond_subgraph_index": 7, "body_subgraph_index": 0}),
         "subgraph 7 of 1 is called"),
        (Operator("ADD", (0, 1), (1,)), "no operator makes 'y'"),
    ],
)  # fmt: skip
def test_operators_that_do_not_fit_are_named(op: Operator, told: str) -> None:
    with pytest.raises(FerruleError, match=told):
        program_of(lite(op, x=(2,), y=(2,)))
