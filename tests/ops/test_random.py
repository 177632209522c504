"""Random bits: against known answers of the generators, and the specification's example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import DType, boolean, f32, i16, u8, u32, u64
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor

Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]


def bits(
    check: Check, state: Any, shape: Any, dtype: DType, algorithm: str
) -> tuple[Array, Array]:
    after, out = check(
        lambda b, s: ops.random_bits(b, s, shape, dtype, algorithm), np.array(state, np.uint64),
        symbolic=False,
    )  # fmt: skip
    return after, out


def test_the_example_of_the_specification(compiled: Check) -> None:
    after, out = bits(compiled, [1, 2], (2, 2), u64, "THREE_FRY")
    np.testing.assert_array_equal(after, [1, 6])
    expected = [[9236835810183407956, 16087790271692313299],
                [18212823393184779219, 2658481902456610144]]  # fmt: skip
    np.testing.assert_array_equal(out, np.array(expected, np.uint64))


def test_known_answers_of_threefry(compiled: Check) -> None:
    """Those of the Random123 library."""
    ones = 2**64 - 1
    for state, words in (
        ([0, 0], [0x6B200159, 0x99BA4EFE]), ([ones, ones], [0x1CB996FC, 0xBB002BE7]),
        ([0x03707344_13198A2E, 0x85A308D3_243F6A88], [0xC4923A9C, 0x483DF7A0]),
    ):  # fmt: skip
        _, out = bits(compiled, state, (2,), u32, "THREE_FRY")
        np.testing.assert_array_equal(out, words)


def test_known_answers_of_philox(compiled: Check) -> None:
    ones = 2**64 - 1
    for state, words in (
        ([0, 0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ones] * 3, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x299F31D0_A4093822, 0x85A308D3_243F6A88, 0x03707344_13198A2E],
         [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ):  # fmt: skip
        _, out = bits(compiled, state, (4,), u32, "PHILOX")
        np.testing.assert_array_equal(out, words)
        _, pairs = bits(compiled, state, (2,), u64, "PHILOX")
        np.testing.assert_array_equal(pairs, [a + (c << 32) for a, c in (words[:2], words[2:])])


def test_states_count_blocks_with_a_carry(check: Check) -> None:
    last = 2**64 - 1
    after, out = bits(check, [7, last, 3], (5,), u32, "PHILOX")
    np.testing.assert_array_equal(after, [7, 1, 4])
    _, next_block = bits(check, [7, 0, 4], (1,), u32, "PHILOX")
    assert out[4] == next_block[0]
    after, short = bits(check, [7, 5], (5,), u32, "DEFAULT")
    np.testing.assert_array_equal(after, [7, 7])
    _, long = bits(check, [7, 5, 7], (5,), u32, "PHILOX")
    np.testing.assert_array_equal(short, long)
    after, _ = bits(check, [7, last], (3, 2), u32, "THREE_FRY")
    np.testing.assert_array_equal(after, [7, 2])


def test_the_words_of_a_block_lie_along_one_dim(check: Check) -> None:
    """As XLA has them: 1.7973e9 2.5791e9, 1.3515e9 3.2358e9, .. of the state 0, 0."""
    _, out = bits(check, [0, 0], (3, 2), u32, "THREE_FRY")
    np.testing.assert_allclose(out[:, 0], [1.7973e9, 1.3515e9, 1.6886e9], rtol=1e-4)
    np.testing.assert_allclose(out[:, 1], [2.5791e9, 3.2358e9, 4.2293e9], rtol=1e-4)
    _, odd = bits(check, [0, 0], (5,), u32, "THREE_FRY")
    np.testing.assert_array_equal(odd, out.ravel()[:5])


@pytest.mark.parametrize("algorithm", ["THREE_FRY", "PHILOX"])
@pytest.mark.parametrize("dtype", [u8, i16, u32, f32, u64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (4, 3), (0, 2)])
def test_every_shape(shape: Any, dtype: DType, algorithm: str, check: Check) -> None:
    _, out = bits(check, [123456789, 2**40 + 5], shape, dtype, algorithm)
    assert out.shape == shape


def test_narrow_numbers_are_the_lower_part_of_words(check: Check) -> None:
    _, words = bits(check, [9, 9], (6,), u32, "PHILOX")
    _, low = bits(check, [9, 9], (6,), u8, "PHILOX")
    np.testing.assert_array_equal(low, words % 256)


def test_bits_are_balanced(check: Check) -> None:
    for algorithm in ("THREE_FRY", "PHILOX"):
        _, out = bits(check, [1, 2], (4000,), u32, algorithm)
        ones = np.bitwise_count(out.astype(np.uint32)).mean()
        assert abs(ones - 16) < 0.2


def test_what_there_is_none_of() -> None:
    b = GraphBuilder()
    state = b.input(tensor((2,), u64))
    with pytest.raises(CompileError, match="none of THREE_FRY, PHILOX"):
        ops.random_bits(b, state, (3,), u32, "MERSENNE")
    with pytest.raises(CompileError, match="no bools"):
        ops.random_bits(b, state, (3,), boolean)
    with pytest.raises(CompileError, match="takes a state of"):
        ops.random_bits(b, b.input(tensor((3,), u64)), (3,), u32, "THREE_FRY")
