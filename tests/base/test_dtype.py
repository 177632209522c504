"""dtypes: names, NumPy storage, bf16 rounding and promotion, each against an independent oracle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ferrule.base import dtype as d
from ferrule.base.errors import InputError, InputTypeError

torch = pytest.importorskip("torch")

TORCH = {
    d.f16: torch.float16, d.bf16: torch.bfloat16, d.f32: torch.float32, d.f64: torch.float64,
    d.i8: torch.int8, d.i16: torch.int16, d.i32: torch.int32, d.i64: torch.int64,
    d.u8: torch.uint8, d.boolean: torch.bool,
}  # fmt: skip


@pytest.mark.parametrize("x", d.ALL)
def test_names_sizes_and_storage_agree(x: d.DType) -> None:
    assert d.from_name(x.name) is x
    assert x.numpy.itemsize == x.size
    assert x is d.bf16 or d.from_numpy(x.numpy) is x
    assert pickle.loads(pickle.dumps(x)) is x


def test_numpy_names_are_understood() -> None:
    assert d.from_name("float32") is d.f32
    assert d.from_name("bfloat16") is d.bf16
    assert d.from_numpy(np.float64) is d.f64


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(InputTypeError, match="no dtype is called 'f8'"):
        d.from_name("f8")
    with pytest.raises(TypeError, match="complex64"):
        d.from_numpy(np.complex64)
    assert issubclass(InputTypeError, InputError)


def test_limits_are_those_of_numpy() -> None:
    for x in d.INTEGERS:
        assert (x.min, x.max) == (np.iinfo(x.numpy).min, np.iinfo(x.numpy).max)


def test_only_half_types_compute_in_another() -> None:
    assert [x for x in d.ALL if x.compute is not x] == [d.f16, d.bf16]
    assert d.bf16.compute is d.f32


def test_bf16_rounds_as_torch_does() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    edges = [0, 1, 0x8000, 0x18000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF]
    values = np.concatenate([bits, np.array(edges, np.uint32)]).view(np.float32)
    stored = d.to_storage(values, d.bf16)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(d.from_storage(stored, d.bf16), expected)


@pytest.mark.parametrize("a", TORCH)
@pytest.mark.parametrize("b", TORCH)
def test_promotion_is_that_of_torch(a: d.DType, b: d.DType) -> None:
    assert TORCH[d.promote(a, b)] == torch.promote_types(TORCH[a], TORCH[b])


def test_promotion_of_wide_unsigned_types() -> None:
    assert d.promote(d.u16, d.i16) is d.i32
    assert d.promote(d.i32, d.u64) is d.i64
    assert d.promote(d.u64, d.u16) is d.u64
