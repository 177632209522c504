"""Malformed texts: one clear error with a place, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrule.base.errors import InputError, ParseError, UnsupportedError
from ferrule.frontend.stablehlo.bytecode import read_bytecode
from ferrule.frontend.stablehlo.read import read
from ferrule.frontend.stablehlo.text import read_text
from tests.frontend.stablehlo import artifacts, programs
from tests.frontend.stablehlo.same import differences

F = "tensor<2xf32>"


def text(lines: str) -> str:
    return f"func.func @main(%x: {F}, %t: tuple<{F}, {F}>) {{\n{lines}\nreturn\n}}"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (text(f"%0 = stablehlo.add %x, %y : {F}"), r"f:2:24: no value %y is known here"),
        (text(f"%0 = stablehlo.add %x : {F}"), r"f:2:23: expected ',', got ':'"),
        (text(f"%0 = stablehlo.add %x, %x {F}"), r"f:2:27: expected ':', got 'tensor'"),
        (text("%0 = stablehlo.add %x, %x : tensor<3xf32>"),
         r"f:2:20: %x is a tensor<2xf32>, not a tensor<3xf32>"),
        (text(f"%0 = stablehlo.tanh %t : {F}"), r"%t is a tuple<tensor<2xf32>, tensor<2xf32>>"),
        (text(f"%x = stablehlo.tanh %x : {F}"), r"f:2:1: a value %x was defined before"),
        (text(f"%0, %1 = stablehlo.tanh %x : {F}"), r"has 1 results, and 2 names"),
        (text(f"%0:0 = stablehlo.tanh %x : {F}"), "a name for 0 results"),
        (text(f"%0 = stablehlo.tanh %x#1 : {F}"), "%x has 1 values, not %x#1"),
        (text(f"%0 = stablehlo.tanh %x {{a = 1, a = 2}} : {F}"), "stands here twice"),
        (text(f"%0 = stablehlo.tanh %x {{a = }} : {F}"), "expected an attribute, got '}'"),
        (text(f'%0 = "stablehlo.add"(%x) : ({F}, {F}) -> {F}'), "has 1 operands, and types of 2"),
        (text("%0 = stablehlo.constant dense<1.0> : f32"), "expected the type of a tensor"),
        (text("%0 = stablehlo.constant [1]"), "expected a constant"),
        (text("%0 = stablehlo.iota dim = 99999999999999999999 : tensor<2xf32>"), "64 bits"),
        (text("return"), "expected '}' after a return"),
        (text("%0 = §"), r"f:2:6: a character that begins no token: '§'"),
        (text('"a\\q"() : () -> ()'), "an unknown escape"),
        (text("%0 = stablehlo.constant dense<1.0 : tensor<f32>\n/"), "expected ':'"),
        (text(f"%0 = stablehlo.reduce(%x init: %x) applies f.g across dimensions = [0] : ({F}, {F})"
              f" -> {F}"), "an operation of two elements, got f.g"),
        ("func.func @f() { return } func.func @f() { return }", "a function @f was defined before"),
        ("func.func @f() -> tensor<f32> { return }", "does not return what its type says"),
        ("func.func @f() { }", "a region must end with a return"),
        ("func.func @f(", "got the end of the text"),
        ("func.func @f() { return } }", "expected a function"),
        ("module {", "expected a function"),
        ("", "^$"),
        ('"builtin.module"() ({ "func.func"() ({ }) : () -> () }) : () -> ()', "without sym_name"),
        ("func.func @f(%a: tensor<2xf32) { return }", "as <2x3xf32>"),
        ("func.func @f(%a: tensor<2xf99>) { return }", "f99"),
        ("#a = #b<" + "<" * 100_000, "got the end"),
        ("#a = " + "[" * 100_000, "nested more than 64 deep"),
        ("#a = " + "{a = " * 100_000, "nested more than 64 deep"),
        ("!a = " + "tuple<" * 100_000, "nested more than 64 deep"),
        ("#a = " + "(" * 100_000, "nested more than 64 deep"),
        ("func.func @f() {" + ' "a"() ({' * 50_000, "nested more than 64 deep"),
        ("!a = tuple<>\n" + "\n".join(f"!{b} = tuple<{', '.join([f'!{a}'] * 20)}>"
         for a, b in zip("abcdefghij", "bcdefghijk")), "a tuple of too many types"),
    ],
)  # fmt: skip
def test_malformed_programs(program: str, message: str) -> None:
    if not program:
        assert not read_text(program).functions
        return
    with pytest.raises((ParseError, UnsupportedError), match=message) as caught:
        read_text(program, "f")
    assert str(caught.value).startswith("f:")
    assert len(str(caught.value)) < 1000
    if isinstance(caught.value, ParseError):
        assert caught.value.line >= 1
        assert caught.value.column >= 1


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (text(f"%0 = stablehlo.novelty %x : {F}"),
         r"f:2:6: no pretty form of an operation stablehlo.novelty is known; .* generic form"),
        (text("%0 = stablehlo.iota dim = 0 : tensor<2xi4>"), "element type i4 is not supported"),
        (text("%0 = stablehlo.iota dim = 0 : tensor<2xf8E4M3FN>"), "f8E4M3FN is not supported"),
        (text("%0 = stablehlo.iota dim = 0 : tensor<2x!quant.uniform<i8:f32, 1.0>>"), "quantised"),
        (text(f'"a"() [^bb1] : () -> {F}'), "with successors"),
        ("func.func @f() { return\n ^bb1: return }", "f:2:2: a region of several blocks"),
        ("func.func private @f(tensor<f32>)", "the function @f has no body"),
        ("func.func private @f()", "the function @f has no body"),
        ("module { module { } }", "a module in a module"),
        ("func.func @f(%a: memref<2xf32>) { return }", "memref"),
        ("func.func @f(%a: !other.type) { return }", "!other.type"),
        ("#a = sparse<0, 1> : tensor<2xf32>", "sparse"),
        ("#a = #stablehlo.novelty<1>", "the attribute novelty"),
    ],
)  # fmt: skip
def test_what_is_not_supported(program: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        read_text(program, "f")


def test_read_chooses_by_what_a_file_begins_with(tmp_path: Path) -> None:
    small = read_text(programs.SMALL)
    for name, data in {
        "a.mlir": programs.SMALL.encode(), "a.bin": artifacts.SMALL, "a.jax": artifacts.EXPORT,
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
        module = read(tmp_path / name)
        assert module.functions.keys() == read(data).functions.keys()
        if name != "a.jax":
            assert not differences(module, small)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path / "absent.mlir")
    with pytest.raises(InputError, match="can't be read"):
        read("a\0b")
    with pytest.raises(ParseError, match="byte 4: this is neither text nor bytecode"):
        read(b"func\xff\xfe")
    with pytest.raises(ParseError, match="byte 0: this is no bytecode"):
        read_bytecode(b"no")
