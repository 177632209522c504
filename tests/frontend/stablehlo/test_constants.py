"""The elements of `dense<..>`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.base.dtype import bf16, from_storage
from ferrule.base.errors import ParseError
from ferrule.frontend.stablehlo.elements import bfloat16
from ferrule.frontend.stablehlo.text import read_text

INF = float("inf")


def constant(elements: str, type: str, tail: str = "") -> Any:
    """The array of a constant."""
    module = read_text(
        f"func.func @main() {{\n %0 = stablehlo.constant dense<{elements}> : tensor<{type}>\n"
        f" return\n}}{tail}"
    )
    return module.functions["main"].body.operations[0].attributes["value"].values


@pytest.mark.parametrize(
    ("elements", "type", "values"),
    [
        ("[1, 2, -3]", "3xi32", [1, 2, -3]),
        ("[[1, 2], [3, 4]]", "2x2xi64", [[1, 2], [3, 4]]),
        ("5", "ui8", 5),
        ("[5]", "1xui8", [5]),
        ("[255, 0x80]", "2xi8", [-1, -128]),
        ("18446744073709551615", "i64", -1),
        ("[18446744073709551615, 0]", "2xui64", [2**64 - 1, 0]),
        ("[true, false, 1]", "3xi1", [True, False, True]),
        ("[1.5, -2.5e-3, 0x7F800000]", "3xf32", [1.5, float(np.float32(-2.5e-3)), INF]),
        ("[1.0e40, -1.0e40]", "2xf32", [INF, -INF]),
        ("0xFFF0000000000000", "f64", -INF),
        ("[65520.0, 65519.9]", "2xf16", [INF, 65504.0]),
        ("[(1.0, 2.0), (3.0,-0.5)]", "2xcomplex<f32>", [1 + 2j, 3 - 0.5j]),
        ("(1.0, 0x7F800000)", "complex<f32>", complex(1, INF)),
        ("[]", "0xf32", []),
        ("", "2x0xf32", [[], []]),
        ("[[], []]", "2x0xf32", [[], []]),
        ('"0x0000803F00000040"', "2xf32", [1.0, 2.0]),
        ('"0x0000803F"', "2x2xf32", [[1.0, 1.0], [1.0, 1.0]]),
        ('"0x0100"', "2xi1", [True, False]),
        ('"0x0103"', "9xi1", [True] + [False] * 7 + [True]),
        ('"0x01"', "2xi1", [True, True]),
        ("[1, // one > two\n 2]", "2xi32", [1, 2]),
        (" [ [ 1 ] ,\n[\t2 ] ] ", "2x1xi32", [[1], [2]]),
    ],
)
def test_elements(elements: str, type: str, values: Any) -> None:
    assert constant(elements, type).tolist() == values


def test_nan() -> None:
    assert np.isnan(constant("[0x7FC00000, 0xFFC00000]", "2xf32")).all()
    assert constant("0x7FC1", "bf16").tolist() == 0x7FC1


def test_bfloat16_is_rounded_once() -> None:
    tie = 1 + 2.0**-8  # between 1 and the next bf16
    values = [1.0, tie, tie + 2.0**-40, tie - 2.0**-40, 1e39, -1e39, 3.3961776e38, 1e-50, -0.0]
    found = from_storage(bfloat16(np.array(values)), bf16).tolist()
    assert found[:4] == [1.0, 1.0, 1 + 2.0**-7, 1.0]
    assert found[4:6] == [INF, -INF]
    assert found[6] == INF  # above the middle between the greatest number and 2^128
    assert found[7:] == [0.0, 0.0]
    assert np.signbit(found[8])
    assert np.isnan(from_storage(bfloat16(np.array([np.nan])), bf16)).all()
    numbers = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        exact = from_storage(numbers, bf16).astype(np.float64)
    real = ~np.isnan(exact)
    assert (bfloat16(exact)[real] == numbers[real]).all()


def test_a_splat_takes_no_memory() -> None:
    values = constant("1.0", "1000000x1000000x1000xf32")
    assert values.shape == (10**6, 10**6, 1000)
    assert values.strides == (0, 0, 0)


def test_resources() -> None:
    text = """
    func.func @main() {
      %0 = stablehlo.constant dense_resource<numbers> : tensor<2xi32>
      return
    }
    {-#
      dialect_resources: {
        builtin: { numbers: "0x040000000100000002000000" }
      }
    #-}
    """
    (first, _) = read_text(text).functions["main"].body.operations
    assert first.attributes["value"].values.tolist() == [1, 2]
    with pytest.raises(ParseError, match="no resource 'other'"):
        read_text(text.replace("<numbers>", "<other>"))
    with pytest.raises(ParseError, match="4 bytes are not the elements"):
        read_text(text.replace("02000000", "").replace("2xi32", "3xi32"))


@pytest.mark.parametrize(
    ("elements", "type", "message"),
    [
        ("[1, 2]", "3xi32", r":2:32: these lists do not have the shape \[3\]"),
        ("[[1, 2], [3]]", "2x2xi32", "these lists"),
        ("[1, 2", "2xi32", "these lists"),
        ("[1, x]", "2xi32", r":2:36: expected an element of i32, got 'x'"),
        ("[1, 256]", "2xi8", r":2:36: expected an element of i8, got '256'"),
        ("-1", "ui8", "expected an element of ui8"),
        ("1.5", "i32", "expected an element of i32"),
        ("nan", "f32", "expected an element of f32"),
        ("1_0", "i32", "expected an element of i32"),
        ("[1_0.0, 2.0]", "2xf32", "expected an element of f32"),
        ("١", "i32", "expected an element of i32"),
        ("0x1FFFFFFFF", "f32", "expected an element of f32"),
        ("2", "i1", "expected an element of i1"),
        ("", "2xf32", "expected 2 elements, got none"),
        ("[1, 2]", "?xi32", "must have a known shape"),
        ('"0x000"', "f32", "two digits each"),
        ('"0x0000"', "2xf32", "2 bytes are not the elements"),
        ("[1.0, 2.0]", "2xcomplex<f32>", "these lists"),
        ("[" * 10_000, "f32", "these lists"),
        ("1.0", "3000000000x3000000000xf32", r"a tensor of 2\^62 bytes or more"),
        ("1.0", "9999999999999999999x0xf32", r"a size of 2\^62 or more"),
        ("1.0", "x".join(["1"] * 65) + "xf32", "a tensor of rank 65"),
        ("1.0", "1" * 5000 + "xf32", r"a size of 2\^62 or more"),
    ],
)
def test_malformed_elements(elements: str, type: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        constant(elements, type)
