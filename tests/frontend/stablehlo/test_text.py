"""What each construct of the text means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.base.errors import ParseError
from ferrule.frontend.stablehlo.module import (
    Constant,
    Module,
    Operation,
    Place,
    TensorType,
    TokenType,
    TupleType,
)
from ferrule.frontend.stablehlo.text import read_text, read_texts
from tests.frontend.stablehlo import programs
from tests.frontend.stablehlo.same import differences, equal

F, I, B = "tensor<2x3xf32>", "tensor<i32>", "tensor<i1>"


def body(lines: str, arguments: str = "") -> tuple[Operation, ...]:
    """The operations of a function, its return left out."""
    module = read_text(f"func.func @main({arguments}) {{\n{lines}\nreturn\n}}")
    return module.functions["main"].body.operations[:-1]


def one(line: str, arguments: str = f"%x: {F}, %y: {F}, %i: {I}, %p: {B}") -> Operation:
    """The one operation of a function."""
    (operation,) = body(line, arguments)
    return operation


def test_a_program() -> None:
    module = read_text(programs.SMALL)
    main, loop = module.functions.values()
    assert (main.name, loop.name) == ("main", "loop")
    assert [v.name for v in main.body.arguments] == ["arg0", "arg1"]
    assert main.results == (TensorType((2,), "f32"), TensorType((), "i32"))
    assert main.argument_attributes == ({"jax.buffer_donor": True}, {})
    assert main.result_attributes == ({"jax.result_info": "y"}, {})
    names = [o.name for o in main.body.operations]
    assert names == [
        "stablehlo.constant", "stablehlo.constant", "stablehlo.broadcast_in_dim", "stablehlo.add",
        "stablehlo.reduce", "func.call", "func.return",
    ]  # fmt: skip
    add, call = main.body.operations[3], main.body.operations[5]
    assert add.operands == ("arg0", "0")
    assert add.place == Place(9, 10)
    assert [v.name for v in call.results] == ["3#0", "3#1"]
    assert call.attributes == {"callee": "loop"}
    assert main.body.operations[-1].operands == ("3#0", "3#1")


def test_regions_have_names_of_their_own() -> None:
    loop = read_text(programs.SMALL).functions["loop"].body.operations[3]
    assert loop.operands == ("x", "c")
    condition, step = loop.regions
    assert [v.name for v in condition.arguments] == ["a", "i"]
    assert [v.name for v in step.arguments] == ["a~1", "i~1"]
    assert condition.operations[0].operands == ("i", "c_2")
    assert step.operations[0].operands == ("i~1", "c_1")
    assert step.operations[0].results[0].name != condition.operations[0].results[0].name
    assert step.operations[-1].name == "stablehlo.return"


@pytest.mark.parametrize(
    ("line", "attributes"),
    [
        (f"%0 = stablehlo.abs %x : {F}", {}),
        (f"%0 = stablehlo.tanh %x {{a = 1 : i8}} : {F}", {"a": 1}),
        ("%0 = stablehlo.convert %x : (tensor<2x3xf32>) -> tensor<2x3xf64>", {}),
        (f"%0 = stablehlo.compare LT, %x, %y : ({F}, {F}) -> tensor<2x3xi1>",
         {"comparison_direction": "LT", "compare_type": "NOTYPE"}),
        (f"%0 = stablehlo.compare  EQ, %x, %y, TOTALORDER : ({F}, {F}) -> tensor<2x3xi1>",
         {"comparison_direction": "EQ", "compare_type": "TOTALORDER"}),
        ("%0 = stablehlo.iota dim = 1 : tensor<2x3xf32>", {"iota_dimension": 1}),
        (f"%0 = stablehlo.transpose %x, dims = [1, 0] : ({F}) -> tensor<3x2xf32>",
         {"permutation": (1, 0)}),
        (f"%0 = stablehlo.slice %x [0:2, 0:3:2] : ({F}) -> tensor<2x2xf32>",
         {"start_indices": (0, 0), "limit_indices": (2, 3), "strides": (1, 2)}),
        (f"%0 = stablehlo.concatenate %x, %y, dim = 0 : ({F}, {F}) -> tensor<4x3xf32>",
         {"dimension": 0}),
        (f"%0 = stablehlo.dynamic_slice %x, %i, %i, sizes = [1, 3] : ({F}, {I}, {I}) ->"
         " tensor<1x3xf32>", {"slice_sizes": (1, 3)}),
        (f"%0 = stablehlo.reduce_precision %x, format = e5m10 : {F}",
         {"exponent_bits": 5, "mantissa_bits": 10}),
        (f"%0 = stablehlo.cholesky %x, lower = true : {F}", {"lower": True}),
        (f"%0 = stablehlo.cholesky %x : {F}", {"lower": False}),
        (f"%0 = stablehlo.get_dimension_size %x, dim = 1 : ({F}) -> {I}", {"dimension": 1}),
        ("%0 = stablehlo.fft %x, type = RFFT, length = [3] : (tensor<2x3xf32>) ->"
         " tensor<2x2xcomplex<f32>>", {"fft_type": "RFFT", "fft_length": (3,)}),
        ("%0:2 = chlo.top_k(%x, k = 2) : tensor<2x3xf32> -> (tensor<2x2xf32>, tensor<2x2xi32>)",
         {"k": 2, "is_stable": True}),
        ('stablehlo.custom_call @check.expect_close(%x, %y) {has_side_effect = true} :'
         f" ({F}, {F}) -> ()", {"call_target_name": "check.expect_close", "has_side_effect": True}),
        ('stablehlo.custom_call @f() {backend_config = "", mhlo.backend_config = {uplo = 76 : ui8},'
         ' mhlo.frontend_attributes = {a = "b"}} : () -> ()',
         {"backend_config": {"uplo": 76}, "api_version": 1}),
        ("stablehlo.custom_call @f() {api_version = 4 : i32} : () -> ()", {"backend_config": {}}),
        (f'%0 = stablehlo.composite "a.b" %x, %y {{composite_attributes = {{n = 2 : i64}},'
         f" decomposition = @f, version = 3 : i32}} : ({F}, {F}) -> {F}",
         {"name": "a.b", "composite_attributes": {"n": 2}, "decomposition": "f", "version": 3}),
        ("check.expect_almost_eq_const %x, dense<1.0> : tensor<2x3xf32>, tolerance = 0.1",
         {"tolerance": 0.1}),
        ("check.expect_close %x, %y, max_ulp_difference = 3 : tensor<2x3xf32>, tensor<2x3xf32>",
         {"max_ulp_difference": 3, "min_ulp_difference": 0}),
    ],
)  # fmt: skip
def test_attributes_of_pretty_forms(line: str, attributes: dict[str, Any]) -> None:
    found = one(line).attributes
    assert {key: found[key] for key in attributes} == attributes


def test_products() -> None:
    product = one(
        "%0 = stablehlo.dot_general %x, %y, batching_dims = [0] x [0], contracting_dims = [1] x [1]"
        ", precision = [HIGH, DEFAULT], algorithm = <lhs_precision_type = tf32,"
        " rhs_precision_type = tf32, accumulation_type = f32, lhs_component_count = 1,"
        " rhs_component_count = 1, num_primitive_operations = 3,"
        " allow_imprecise_accumulation = false>"
        f" : ({F}, {F}) -> tensor<2xf32>"
    ).attributes
    assert product["dot_dimension_numbers"] == {
        "lhs_batching_dimensions": (0,), "rhs_batching_dimensions": (0,),
        "lhs_contracting_dimensions": (1,), "rhs_contracting_dimensions": (1,),
    }  # fmt: skip
    assert product["precision_config"] == ("HIGH", "DEFAULT")
    assert product["algorithm"]["lhs_precision_type"] == "tf32"
    assert product["algorithm"]["num_primitive_operations"] == 3
    plain = one(
        f"%0 = stablehlo.dot_general %x, %y, contracting_dims = [1] x [1] : ({F}, {F}) ->"
        " tensor<2x2xf32>"
    ).attributes
    assert plain["precision_config"] == ("DEFAULT", "DEFAULT")
    assert plain["dot_dimension_numbers"]["lhs_batching_dimensions"] == ()
    assert "algorithm" not in plain


def test_convolutions() -> None:
    form = (
        "%0 = stablehlo.convolution(%x, %w) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[f, 1, b, 0],"
        " window = {{{}}} {{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} :"
        " (tensor<1x4x4x1xf32>, tensor<3x3x1x1xf32>) -> tensor<1x2x1x2xf32>"
    )
    arguments = "%x: tensor<1x4x4x1xf32>, %w: tensor<3x3x1x1xf32>"
    full = one(
        form.format("stride = [2, 1], pad = [[1, 0], [0, 2]], lhs_dilate = [2, 2],"
                    " rhs_dilate = [1, 3], reverse = [true, 0]"), arguments
    ).attributes  # fmt: skip
    assert full["dimension_numbers"] == {
        "input_batch_dimension": 0, "input_feature_dimension": 3,
        "input_spatial_dimensions": (1, 2), "kernel_input_feature_dimension": 2,
        "kernel_output_feature_dimension": 3, "kernel_spatial_dimensions": (0, 1),
        "output_batch_dimension": 2, "output_feature_dimension": 0,
        "output_spatial_dimensions": (3, 1),
    }  # fmt: skip
    assert full["window_strides"] == (2, 1)
    assert full["padding"].values.tolist() == [[1, 0], [0, 2]]
    assert full["window_reversal"] == (True, False)
    bare = one(form.format(""), arguments).attributes
    assert (bare["window_strides"], bare["lhs_dilation"], bare["rhs_dilation"]) == ((1, 1),) * 3
    assert bare["padding"].values.tolist() == [[0, 0], [0, 0]]
    assert bare["window_reversal"] == (False, False)


def test_structures_have_all_fields() -> None:
    gather = one(
        '%0 = "stablehlo.gather"(%x, %s) <{dimension_numbers = #stablehlo.gather<offset_dims = [1],'
        " collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes ="
        " array<i64: 1, 3>}> : (tensor<2x3xf32>, tensor<4x1xi32>) -> tensor<4x3xf32>",
        "%x: tensor<2x3xf32>, %s: tensor<4x1xi32>",
    ).attributes
    assert gather["dimension_numbers"] == {
        "offset_dims": (1,), "collapsed_slice_dims": (0,), "operand_batching_dims": (),
        "start_indices_batching_dims": (), "start_index_map": (0,), "index_vector_dim": 1,
    }  # fmt: skip
    assert gather["slice_sizes"] == (1, 3)
    assert gather["indices_are_sorted"] is False


def test_reductions() -> None:
    text = """func.func @main(%x: tensor<2x3xf32>, %a: tensor<f32>) -> tensor<2xf32> {{
      %0 = {} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>{}
      return %0 : tensor<2xf32>
    }}"""
    applied = read_text(
        text.format(
            "stablehlo.reduce(%x init: %a) applies stablehlo.add across dimensions = [1]", ""
        )
    )
    added = "%1 = stablehlo.add %p, %q : tensor<f32> stablehlo.return %1 : tensor<f32> }"
    reducer = read_text(
        text.format(
            "stablehlo.reduce(%x init: %a) across dimensions = [1]",
            " reducer(%p: tensor<f32>, %q: tensor<f32>) {" + added,
        )
    )
    generic = read_text(
        text.format(
            '"stablehlo.reduce"(%x, %a) <{dimensions = array<i64: 1>}> ({'
            f" ^bb0(%p: tensor<f32>, %q: tensor<f32>): {added})", ""
        )
    )  # fmt: skip
    assert not differences(applied, reducer)
    assert not differences(applied, generic)
    (region,) = applied.functions["main"].body.operations[0].regions
    assert region.operations[0].operands == tuple(v.name for v in region.arguments)


def test_several_reductions_at_once() -> None:
    operation = one(
        "%0:2 = stablehlo.reduce(%x init: %a), (%y init: %b) across dimensions = [0, 1] :"
        " (tensor<2x3xf32>, tensor<2x3xi32>, tensor<f32>, tensor<i32>) -> (tensor<f32>, tensor<i32>"
        ") reducer(%p: tensor<f32>, %q: tensor<f32>) (%r: tensor<i32>, %s: tensor<i32>) {"
        " stablehlo.return %q, %s : tensor<f32>, tensor<i32> }",
        "%x: tensor<2x3xf32>, %y: tensor<2x3xi32>, %a: tensor<f32>, %b: tensor<i32>",
    )
    assert operation.operands == ("x", "y", "a", "b")
    (region,) = operation.regions
    assert [v.name for v in region.arguments] == ["p", "r", "q", "s"]


def test_branches_and_tokens() -> None:
    case, after = body(
        '%0 = "stablehlo.case"(%i) ({ stablehlo.return %x : tensor<2x3xf32> }, {'
        " stablehlo.return %y : tensor<2x3xf32> }) : (tensor<i32>) -> tensor<2x3xf32>\n"
        "%1 = stablehlo.after_all %t, %t : !stablehlo.token",
        f"%i: tensor<i32>, %x: {F}, %y: {F}, %t: !stablehlo.token",
    )
    assert [r.operations[0].operands for r in case.regions] == [("x",), ("y",)]
    assert after.results[0].type == TokenType()


def test_tuples() -> None:
    made, taken = body(
        f"%0 = stablehlo.tuple %x, %x : tuple<{F}, {F}>\n"
        f"%1 = stablehlo.get_tuple_element %0[1] : (tuple<{F}, {F}>) -> {F}",
        f"%x: {F}",
    )
    type = TensorType((2, 3), "f32")
    assert made.results[0].type == TupleType((type, type))
    assert taken.attributes == {"index": 1}


def test_types() -> None:
    module = read_text(
        "func.func @main(%a: tensor<?x3xf32>, %b: tensor<*xf32>, %c: tensor<complex<f64>>, %d:"
        " tensor<4x?xui8, #stablehlo.bounds<?, 9>>, %e: tensor<f16>) { return }"
    )
    assert [v.type for v in module.functions["main"].body.arguments] == [
        TensorType((None, 3), "f32"), TensorType(None, "f32"), TensorType((), "complex<f64>"),
        TensorType((4, None), "ui8"), TensorType((), "f16"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 : i32", 1), ("-5 : i64", -5), ("0.5 : f64", 0.5), ("-2.5", -2.5), ("true", True),
        ("unit", True), ('"a\\22\\n"', 'a"\n'), ("@f", "f"), ('@"f g"', "f g"), ("@f::@g", "f::g"),
        ("[1, [2.0], {b = 3}]", (1, (2.0,), {"b": 3})), ("array<i64: 1, -2>", (1, -2)),
        ("array<i1: true, false>", (True, False)), ("array<f32: 1.0, 2.0>", (1.0, 2.0)),
        ("array<i64>", ()), ("f32", "f32"), ("tensor<2xi1>", TensorType((2,), "i1")),
        ("#stablehlo<precision HIGHEST>", "HIGHEST"), ("#stablehlo<transpose ADJOINT>", "ADJOINT"),
        ("#stablehlo.channel_handle<handle = 3, type = 1>", {"handle": 3, "type": 1}),
        ("0x7F800000 : f32", float("inf")), ("0xFF80 : bf16", float("-inf")),
        ("0x3C00 : f16", 1.0), ("0.1 : f32", float(np.float32(0.1))), ("0.1 : bf16", 0.10009765625),
        ("#other.thing<[1, 2]>", "#other.thing<[1, 2]>"), ("affine_map<(d0) -> (d0)>",
         "affine_map<(d0) -> (d0)>"), ("#alias", (7, 8)), ("dense<3> : tensor<i64>", 3),
    ],
)  # fmt: skip
def test_attributes(text: str, value: Any) -> None:
    module = read_text(
        "#alias = [7, 8]\nfunc.func @main() {\n"
        f'"test.op"() {{value = {text}}} : () -> ()\nreturn\n}}'
    )
    found = module.functions["main"].body.operations[0].attributes["value"]
    if isinstance(found, Constant):
        found = found.values.tolist()
    assert found == value
    assert type(found) is type(value)


def test_what_says_where_a_program_runs_is_left_out() -> None:
    module = read_text("""
    #loc1 = loc("a")
    #loc2 = loc(callsite(#loc1 at fused<"x">["b":1:2 to :3, #loc1]))
    module @m attributes {mhlo.num_partitions = 1 : i32} {
      sdy.mesh @mesh = <["x"=2]> {a = 1} loc(#loc1)
      func.func @main(%x: tensor<2xf32> {mhlo.sharding = "{x}", sdy.sharding = #sdy.s<@m, [{"x"}]>}
          loc("x")) -> tensor<2xf32> {
        %0 = sdy.sharding_constraint %x <@mesh, [{"x"}]> : tensor<2xf32> loc(#loc2)
        %1 = stablehlo.negate %0 {mhlo.frontend_attributes = {a = "b"}} : tensor<2xf32>
        return %1 : tensor<2xf32> loc(unknown)
      } loc(#loc2)
    } loc(#loc1)
    #loc3 = loc("later")
    """)
    main = module.functions["main"]
    assert main.argument_attributes == ({},)
    constraint, negate, _ = main.body.operations
    assert constraint.name == "stablehlo.optimization_barrier"
    assert negate.attributes == {}
    assert negate.operands == (constraint.results[0].name,)


def test_generic_form_of_all() -> None:
    generic = read_text("""
    "builtin.module"() <{sym_name = "m"}> ({
      "func.func"() <{arg_attrs = [{a = 1 : i32}], function_type = (tensor<f32>) -> tensor<f32>,
          sym_name = "main"}> ({
      ^bb0(%arg0: tensor<f32>):
        %0 = "stablehlo.add"(%arg0, %arg0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
        "func.return"(%0) : (tensor<f32>) -> ()
      }) : () -> ()
    }) : () -> ()""")
    pretty = read_text("""
    func.func @main(%x: tensor<f32> {a = 1 : i32}) -> tensor<f32> {
      %y = stablehlo.add %x, %x : tensor<f32>
      func.return %y : tensor<f32>
    }""")
    assert not differences(generic, pretty)


def test_older_programs_have_constants_for_arrays() -> None:
    operation = one(
        '%0 = "stablehlo.transpose"(%x) {permutation = dense<[1, 0]> : tensor<2xi64>} :'
        f" ({F}) -> tensor<3x2xf32>"
    )
    assert operation.attributes["permutation"] == (1, 0)


def test_windows_have_their_defaults() -> None:
    operation = one(
        '%0 = "stablehlo.reduce_window"(%x, %a) <{window_dimensions = array<i64: 1, 2>}> ({'
        " ^bb0(%p: tensor<f32>, %q: tensor<f32>): stablehlo.return %p : tensor<f32> }) :"
        f" ({F}, tensor<f32>) -> tensor<2x2xf32>",
        f"%x: {F}, %a: tensor<f32>",
    ).attributes
    assert operation["window_strides"] == operation["base_dilations"] == (1, 1)
    assert operation["padding"].values.tolist() == [[0, 0], [0, 0]]


def test_programs_in_one_text() -> None:
    part = "func.func @main() {\n return\n}\n"
    first, second = read_texts(part + "// -----\n" + part)
    assert first.functions["main"].body.operations[0].place == Place(2, 2)
    assert second.functions["main"].body.operations[0].place == Place(6, 2)
    with pytest.raises(ParseError, match=r"^name:6:2: "):
        read_texts(part + "// -----\n" + part.replace("return", "oops"), "name")


def test_differences_are_seen() -> None:
    text = "func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {{ {} return %0 : tensor<2xf32> }}"

    def read(line: str) -> Module:
        return read_text(text.format(line))

    same = read("%0 = stablehlo.add %x, %x : tensor<2xf32>")
    for other in (
        "%0 = stablehlo.multiply %x, %x : tensor<2xf32>",
        "%0 = stablehlo.add %x, %x {a = 1} : tensor<2xf32>",
        "%1 = stablehlo.add %x, %x : tensor<2xf32> %0 = stablehlo.add %x, %1 : tensor<2xf32>",
    ):
        assert differences(same, read(other)), other
    assert not equal(True, 1)
    zero, minus = (Constant(TensorType((), "f32"), np.float32(v)) for v in (0.0, -0.0))
    assert not equal(zero, minus)
