"""What an operation of VHLO is in StableHLO.

VHLO writes all attributes out, gives structures field by field, and has versions of operations.

Specification: VhloLegalizeToStablehlo.cpp (openxla/stablehlo).
"""

from __future__ import annotations

import re
from typing import Any

from ferrule.frontend.stablehlo.attributes import STRUCTURES
from ferrule.frontend.stablehlo.module import Constant

_STRUCTURES = {
    "stablehlo.convolution": ("dimension_numbers", "conv"),
    "stablehlo.dynamic_conv": ("dimension_numbers", "conv"),
    "stablehlo.dot_general": ("dot_dimension_numbers", "dot"),
    "stablehlo.dynamic_gather": ("dimension_numbers", "gather"),
    "stablehlo.gather": ("dimension_numbers", "gather"),
    "stablehlo.scatter": ("scatter_dimension_numbers", "scatter"),
}
_FUNCTIONS = {"vhlo.func": "func.func", "vhlo.call": "func.call"}


def name_of(name: str, in_function: bool) -> str:
    """The name in StableHLO of an operation ("vhlo.add_v1": "stablehlo.add"), given whether it
    stands directly in a function, where `return` is that of functions.
    """
    if not name.startswith("vhlo."):
        return name
    name = re.sub(r"_v\d+$", "", name)
    if name == "vhlo.return":
        return "func.return" if in_function else "stablehlo.return"
    return _FUNCTIONS.get(name, name.replace("vhlo.", "stablehlo.", 1))


def attributes_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The attributes that an operation, named as in StableHLO, has there."""
    if name in _STRUCTURES:
        key, structure = _STRUCTURES[name]
        given[key] = _gathered(given, STRUCTURES[structure])
    if name == "stablehlo.dot_general":
        algorithm = _gathered(given, STRUCTURES["dot_algorithm"])
        if not isinstance(algorithm["lhs_component_count"], str) and algorithm["accumulation_type"]:
            given["algorithm"] = algorithm  # the others have the type none for a number
    if name == "stablehlo.dynamic_conv":
        given.pop("padding", None)  # which an operand tells, in the first version too
    if "channel_id" in given:
        given["channel_handle"] = {
            "handle": given.pop("channel_id"), "type": given.pop("channel_type", 0),
        }  # fmt: skip
    pairs = given.get("source_target_pairs")
    optional = name in ("stablehlo.send", "stablehlo.recv")
    if optional and isinstance(pairs, Constant) and not pairs.values.size:
        del given["source_target_pairs"]
    return given


def _gathered(given: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Takes the fields of a structure out of attributes; what is missing has its default."""
    return {field: _plain(given.pop(field, default)) for field, default in fields.items()}


def _plain(value: Any) -> Any:
    return tuple(value.values.reshape(-1).tolist()) if isinstance(value, Constant) else value
