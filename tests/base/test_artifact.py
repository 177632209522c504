"""The descriptor: shape arithmetic, and bytes that come back whole or are refused."""

from __future__ import annotations

import random

import pytest

from ferrule.base.artifact import Compiled, DimSource, Guard, TensorSpec
from ferrule.base.errors import CacheError, ParseError
from ferrule.base.shapes import evaluate, shape_function

PROGRAM = Compiled(
    name="mlp",
    key="abc123",
    object_code=bytes(range(256)),
    inputs=(TensorSpec("x", "f32", ("n", 64)), TensorSpec("k", "i64", ())),
    params=(TensorSpec("w", "bf16", (64, 32)),),
    outputs=(TensorSpec("y", "f32", ("2*n + k//2", 32)),),
    dims=(DimSource("n", 0, 0), DimSource("k", 1, None, 2, 64, 8)),
    guards=(Guard("n >= 2", "the batch must be two or more"),),
    const_bytes=8192,
    errors=("index 3 is out of range",),
    meta={"kernels": 3, "explain": "gemm ü", "target": "generic"},
)


def test_bytes_round_trip() -> None:
    assert Compiled.from_bytes(PROGRAM.to_bytes()) == PROGRAM


@pytest.mark.parametrize(
    ("source", "expected", "taken", "refused"),
    [
        (DimSource("n", 0, 0), "at least 0", (0, 9), (-1,)),
        (DimSource("n", 0, 0, 2), "at least 2", (2, 9), (0, 1)),
        (DimSource("n", 0, 0, 1, 64), "1 to 64", (1, 64), (0, 65)),
        (DimSource("n", 0, 0, 4, 4), "4", (4,), (3, 5)),
        (DimSource("n", 0, 0, 8, 64, 8), "8 to 64 and a multiple of 8", (8, 64), (12, 72)),
    ],
)
def test_a_dim_takes_its_range(
    source: DimSource, expected: str, taken: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    assert source.expected == expected
    assert all(map(source.takes, taken))
    assert not any(map(source.takes, refused))


def test_names_and_slots_follow_the_abi() -> None:
    assert PROGRAM.entry == "ferrule_entry_abc123"
    assert PROGRAM.arena_bytes == "ferrule_arena_bytes_abc123"
    assert PROGRAM.prepare == "ferrule_prepare_abc123"
    assert PROGRAM.slots == 4 + 2 + 1 + 1 + 2


def test_any_damage_is_noticed() -> None:
    data = PROGRAM.to_bytes()
    for position in random.Random(0).sample(range(len(data)), 200):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(CacheError):
            Compiled.from_bytes(bytes(damaged))


@pytest.mark.parametrize("keep", [0, 4, 8, 16, 40, 300, -1])
def test_missing_bytes_are_noticed(keep: int) -> None:
    with pytest.raises(CacheError):
        Compiled.from_bytes(PROGRAM.to_bytes()[:keep])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (7, 7),
        ("n", 9),
        ("2*n + k//2", 20),
        ("-k // 2", -3),
        ("-k % 3", 1),
        ("max(n, k, 3) - min(n, 4)", 5),
        ("n if n > k else k", 9),
        ("n >= 2 and not k == 5", 0),
        ("1 <= n < 10 or k == 0", 1),
    ],
)
def test_shape_arithmetic(text: str | int, value: int) -> None:
    assert evaluate(text, {"n": 9, "k": 5}) == value


def test_several_shapes_at_once() -> None:
    assert shape_function(("a*b", 3, "b"), ("a", "b"))((4, 5)) == (20, 3, 5)
    assert shape_function((), ("a",))((4,)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "m",
        "n +",
        "n / 2",
        "n ** 2",
        "n << 60",
        "'x'",
        "1.5",
        "n.real",
        "n[0]",
        "(lambda: n)()",
        "__import__('os')",
        "max(n)",
        "max(n, n, key=n)",
        "[n for n in (1, 2)]",
        "d",
        "(n := 3)",
        "f'{n}'",
        "",
    ],
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="shape expression"):
        evaluate(text, {"n": 9})
