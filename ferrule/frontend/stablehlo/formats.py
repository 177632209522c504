"""The pretty form of each operation, in a small language of its own.

    format = item.. types              with spaces between
    item   = `%` (an operand) | `%*` (operands, `,` between) | `%*,` (operands, `,` after each)
           | `$name.kind` (an attribute) | `$.kind` (some attributes, whose names the kind knows)
           | `{}` (a dictionary of attributes, or none) | `(?` item.. `?)` (all of it or nothing)
           | a token of the text

`pretty` reads by it, and says what the kinds and types are. Operations without a format have only
the generic form; `while`, `reduce` and the like have a function instead.

Source: `assemblyFormat` in StablehloOps.td, ChloOps.td, CheckOps.td and InterpreterOps.td
(openxla/stablehlo).
"""

from __future__ import annotations

_UNARY = (
    "abs", "cbrt", "ceil", "convert", "count_leading_zeros", "cosine", "exponential",
    "exponential_minus_one", "floor", "imag", "is_finite", "log", "log_plus_one", "logistic",
    "negate", "not", "popcnt", "real", "round_nearest_afz", "round_nearest_even", "rsqrt", "sign",
    "sine", "sqrt", "tan", "tanh", "uniform_dequantize", "uniform_quantize",
)  # fmt: skip
_BINARY = (
    "add", "and", "atan2", "divide", "maximum", "minimum", "multiply", "or", "power", "remainder",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "subtract", "xor",
)  # fmt: skip
_CHLO_UNARY = (
    "_asin_acos_kernel", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i1e", "conj",
    "cosh", "digamma", "erf", "erf_inv", "erfc", "is_inf", "is_neg_inf", "is_pos_inf", "lgamma",
    "sinh", "square", "tan",
)  # fmt: skip
_CHLO_BINARY = ("next_after", "polygamma", "zeta", "mulhi")
_CHLO_BROADCAST = (
    "add", "and", "atan2", "complex", "divide", "maximum", "minimum", "multiply", "next_after",
    "or", "polygamma", "power", "remainder", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "subtract", "xor", "zeta",
)  # fmt: skip

FORMATS = {
    **{f"stablehlo.{name}": "% {} : same" for name in _UNARY},
    **{f"stablehlo.{name}": "% , % {} : same" for name in _BINARY},
    **{f"chlo.{name}": "% {} : arrow" for name in _CHLO_UNARY},
    **{f"chlo.{name}": "% , % {} : arrow" for name in _CHLO_BINARY},
    **{f"chlo.broadcast_{name}": "% , % {} : function" for name in _CHLO_BROADCAST},
    "chlo.broadcast_select": "% , % , % {} : function",
    "chlo.constant": "{} $value.constant value",
    "chlo.top_k": "( % , k = $k.int (? , is_stable = $is_stable.truth ?) ) {} : arrow",
    "stablehlo.after_all": "%* {} : same",
    "stablehlo.bitcast_convert": "% {} : function",
    "stablehlo.broadcast": "% , sizes = $broadcast_sizes.ints {} : function",
    "stablehlo.broadcast_in_dim": "% , dims = $broadcast_dimensions.ints {} : function",
    "stablehlo.cholesky": "% (? , lower = $lower.truth ?) {} : same",
    "stablehlo.clamp": "% , % , % {} : same",
    "stablehlo.compare":
        "$comparison_direction.enum , % , % (? , $compare_type.enum ?) {} : function",
    "stablehlo.complex": "% , % {} : complex",
    "stablehlo.composite": "$name.string %* (? ( $.regions ) ?) {} : function",
    "stablehlo.concatenate": "%*, dim = $dimension.int {} : function",
    "stablehlo.constant": "{} $value.constant value",
    "stablehlo.convolution":
        "( %* ) dim_numbers = $dimension_numbers.conv , window = { $.window } {} : function",
    "stablehlo.create_token": "{} : result",
    "stablehlo.custom_call": "$call_target_name.symbol ( %* ) {} : function",
    "stablehlo.dot": "% , % $.precision {} : function",
    "stablehlo.dot_general": "% , % , $dot_dimension_numbers.dot $.precision {} : function",
    "stablehlo.dynamic_broadcast_in_dim": "% , % , dims = $broadcast_dimensions.ints {} : function",
    "stablehlo.dynamic_iota": "% , dim = $iota_dimension.int {} : function",
    "stablehlo.dynamic_pad": "% , % , % , % , % {} : function",
    "stablehlo.dynamic_reshape": "% , % {} : function",
    "stablehlo.dynamic_slice": "% , %*, sizes = $slice_sizes.ints {} : function",
    "stablehlo.dynamic_update_slice": "%* {} : function",
    "stablehlo.einsum": "% , % , config = $einsum_config.string {} : function",
    "stablehlo.unary_einsum": "% , config = $einsum_config.string {} : function",
    "stablehlo.fft": "% , type = $fft_type.enum , length = $fft_length.ints {} : function",
    "stablehlo.get_dimension_size": "% , dim = $dimension.int {} : function",
    "stablehlo.get_tuple_element": "% [ $index.int ] {} : function",
    "stablehlo.iota": "dim = $iota_dimension.int {} : result",
    "stablehlo.pad":
        "% , % , low = $edge_padding_low.ints , high = $edge_padding_high.ints ,"
        " interior = $interior_padding.ints {} : function",
    "stablehlo.partition_id": "{} : result",
    "stablehlo.real_dynamic_slice": "% , % , % , % {} : function",
    "stablehlo.reduce_precision": "% , format = $.format {} : same",
    "stablehlo.replica_id": "{} : result",
    "stablehlo.reshape": "% {} : function",
    "stablehlo.return": "%* {} returns",
    "stablehlo.reverse": "% , dims = $dimensions.ints {} : same",
    "stablehlo.rng": "% , % , % , distribution = $rng_distribution.enum {} : function",
    "stablehlo.rng_bit_generator": "% , algorithm = $rng_algorithm.enum {} : function",
    "stablehlo.select": "% , % , % {} : select",
    "stablehlo.set_dimension_size": "% , % , dim = $dimension.int {} : function",
    "stablehlo.slice": "% $.ranges {} : function",
    "stablehlo.transpose": "% , dims = $permutation.ints {} : function",
    "stablehlo.tuple": "%* {} : tuple",
    "func.call": "$callee.symbol ( %* ) {} : function",
    "func.return": "%* {} returns",
    "check.expect_almost_eq": "% , % (? , tolerance = $tolerance.number ?) {} : given",
    "check.expect_almost_eq_const":
        "% , $value.constant (? , tolerance = $tolerance.number ?) {} checked",
    "check.expect_close":
        "% , % , max_ulp_difference = $max_ulp_difference.int"
        " (? , min_ulp_difference = $min_ulp_difference.int ?) : {} operands",
    "check.expect_eq": "% , % {} : given",
    "check.expect_eq_const": "% , $value.constant {} checked",
    "check.expect_serialized_eq":
        "% , probe_id = $probe_id.string (? , iter = $iteration.int ?) {} : given",
    "interpreter.print": "% {} : given",
    "interpreter.probe": "% , probe_id = $probe_id.string {} : same",
}  # fmt: skip
