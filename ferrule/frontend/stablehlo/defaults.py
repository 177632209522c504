"""What the attributes of an operation are where a program leaves them out.

Both readers complete what they read with it, so that the same program is the same module.

Specification: StableHLO, "Ops", and `addDefaults` of the conversion to VHLO
(stablehlo/transforms/StablehloLegalizeToVhlo.cpp), which writes all of them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.frontend.stablehlo.attributes import STRUCTURES, TYPED_CONFIG
from ferrule.frontend.stablehlo.elements import spread
from ferrule.frontend.stablehlo.module import Constant, TensorType, Type

_NO_CHANNEL = STRUCTURES["channel_handle"]
_GROUPS = {"channel_handle": _NO_CHANNEL, "use_global_device_ids": False}
_PRECISION = {"precision_config": ("DEFAULT", "DEFAULT")}
_ACCURACY = {"result_accuracy": STRUCTURES["result_accuracy"]}
_TYPED = 4  # the api_version of custom calls that have a dictionary for a backend_config
_TRANSCENDENTAL = (
    "cbrt", "cosine", "exponential", "exponential_minus_one", "log", "log_plus_one", "logistic",
    "rsqrt", "sine", "sqrt", "tan", "tanh",
)  # fmt: skip

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "stablehlo.all_gather": _GROUPS,
    "stablehlo.all_reduce": _GROUPS,
    "stablehlo.reduce_scatter": _GROUPS,
    "stablehlo.all_to_all": {"channel_handle": _NO_CHANNEL},
    "stablehlo.collective_permute": {"channel_handle": _NO_CHANNEL},
    "stablehlo.collective_broadcast": {"channel_handle": _NO_CHANNEL, "has_dynamic_root": False},
    "stablehlo.collective_reduce": {**_GROUPS, "has_dynamic_root": False},
    "stablehlo.cholesky": {"lower": False},
    "stablehlo.compare": {"compare_type": "NOTYPE"},
    "stablehlo.composite": {"version": 0, "composite_attributes": {}},
    "stablehlo.convolution": _PRECISION,
    "stablehlo.dynamic_conv": _PRECISION,
    "stablehlo.custom_call": {
        "has_side_effect": False, "backend_config": "", "api_version": 1,
        "called_computations": (), "operand_layouts": (), "result_layouts": (),
        "output_operand_aliases": (), "result_tilings": (),
    },
    "stablehlo.dot": _PRECISION,
    "stablehlo.dot_general": _PRECISION,
    "stablehlo.dynamic_broadcast_in_dim": {
        "known_expanding_dimensions": (), "known_nonexpanding_dimensions": (),
    },
    "stablehlo.gather": {"indices_are_sorted": False},
    "stablehlo.dynamic_gather": {"indices_are_sorted": False},
    "stablehlo.infeed": {"infeed_config": "", "layout": ()},
    "stablehlo.outfeed": {"outfeed_config": ""},
    "stablehlo.send": {"is_host_transfer": False},
    "stablehlo.recv": {"is_host_transfer": False},
    "stablehlo.scatter": {"indices_are_sorted": False, "unique_indices": False},
    "stablehlo.sort": {"dimension": -1, "is_stable": False},
    "chlo.top_k": {"is_stable": True},
    "chlo.scan": {"is_reverse": False},
    "chlo.ragged_dot": _PRECISION,
    "check.expect_almost_eq": {"tolerance": 1e-4},
    "check.expect_almost_eq_const": {"tolerance": 1e-4},
    "check.expect_close": {"max_ulp_difference": 1, "min_ulp_difference": 0},
    **{f"stablehlo.{name}": _ACCURACY for name in _TRANSCENDENTAL},
}  # fmt: skip
"""Defaults that depend on nothing. `_windows` has those of windows, one number a dimension."""

_ARRAYS = {
    "broadcast_dimensions", "broadcast_sizes", "dimensions", "edge_padding_high",
    "edge_padding_low", "fft_length", "interior_padding", "known_expanding_dimensions",
    "known_nonexpanding_dimensions", "lhs_dilation", "limit_indices", "permutation",
    "rhs_dilation", "slice_sizes", "start_indices", "strides", "window_dimensions",
    "window_dilations", "base_dilations", "window_strides", "window_reversal",
}  # fmt: skip
"""Attributes that are arrays of integers, and were constants of rank 1 in older programs."""

_WINDOWS = {
    "stablehlo.reduce_window": ("window_strides", "base_dilations", "window_dilations"),
    "stablehlo.select_and_scatter": ("window_strides",),
}


def complete(
    name: str, attributes: dict[str, Any], operands: Sequence[Type | None]
) -> dict[str, Any]:
    """The attributes of an operation with those that were left out, given the types of its
    operands; arrays of integers are tuples.
    """
    for key in _ARRAYS & attributes.keys():
        value = attributes[key]
        if isinstance(value, Constant) and value.values.ndim == 1:
            attributes[key] = tuple(value.values.tolist())
    if TYPED_CONFIG in attributes:
        attributes["backend_config"] = attributes.pop(TYPED_CONFIG)
    if name == "stablehlo.custom_call" and attributes.get("api_version") == _TYPED:
        attributes.setdefault("backend_config", {})
    for key, default in DEFAULTS.get(name, {}).items():
        attributes.setdefault(key, default)
    if name in ("stablehlo.convolution", "stablehlo.dynamic_conv"):
        numbers = attributes.get("dimension_numbers")
        if isinstance(numbers, dict):
            rank = len(numbers["input_spatial_dimensions"])
            for key in ("window_strides", "lhs_dilation", "rhs_dilation"):
                attributes.setdefault(key, (1,) * rank)
            attributes.setdefault("window_reversal", (False,) * rank)
            if name == "stablehlo.convolution":
                attributes.setdefault("padding", no_padding(rank))
    if name in _WINDOWS and operands and isinstance(operands[0], TensorType):
        _windows(name, attributes, operands[0])
    return attributes


def _windows(name: str, attributes: dict[str, Any], operand: TensorType) -> None:
    if operand.shape is None:
        return
    rank = len(operand.shape)
    if name == "stablehlo.select_and_scatter":
        attributes.setdefault("window_dimensions", (1,) * rank)
    for key in _WINDOWS[name]:
        attributes.setdefault(key, (1,) * rank)
    attributes.setdefault("padding", no_padding(rank))


def no_padding(rank: int) -> Constant:
    """Padding of 0 on both sides of each dimension."""
    return Constant(TensorType((rank, 2), "i64"), spread(np.array(0, np.int64), (rank, 2)))
