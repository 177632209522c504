"""Attributes in a text, as `module` says they are held.

    attribute = `true` | `false` | `unit` | number (: type)? | "string" | @symbol | type
              | [attribute, ..] | {name = attribute, ..} | array<type: number, ..>
              | dense<elements> : type | dense_resource<name> : type
              | #alias | #dialect.name<..> | #dialect<name ..>
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from ferrule.frontend.stablehlo import dense
from ferrule.frontend.stablehlo.elements import FLOATS, STORAGE, rounded
from ferrule.frontend.stablehlo.lexer import Cursor
from ferrule.frontend.stablehlo.module import Constant
from ferrule.frontend.stablehlo.types import Types

TYPED_CONFIG = "mhlo.backend_config"  # what JAX calls a backend_config that is a dictionary

_DIMS: tuple[int, ...] = ()
STRUCTURES: dict[str, dict[str, Any]] = {
    "gather": {
        "offset_dims": _DIMS, "collapsed_slice_dims": _DIMS, "operand_batching_dims": _DIMS,
        "start_indices_batching_dims": _DIMS, "start_index_map": _DIMS, "index_vector_dim": 0,
    },
    "scatter": {
        "update_window_dims": _DIMS, "inserted_window_dims": _DIMS, "input_batching_dims": _DIMS,
        "scatter_indices_batching_dims": _DIMS, "scatter_dims_to_operand_dims": _DIMS,
        "index_vector_dim": 0,
    },
    "dot": {
        "lhs_batching_dimensions": _DIMS, "rhs_batching_dimensions": _DIMS,
        "lhs_contracting_dimensions": _DIMS, "rhs_contracting_dimensions": _DIMS,
    },
    "ragged_dot": {
        "lhs_batching_dimensions": _DIMS, "rhs_batching_dimensions": _DIMS,
        "lhs_contracting_dimensions": _DIMS, "rhs_contracting_dimensions": _DIMS,
        "lhs_ragged_dimensions": _DIMS, "rhs_group_dimensions": _DIMS,
    },
    "conv": {
        "input_batch_dimension": 0, "input_feature_dimension": 0,
        "input_spatial_dimensions": _DIMS, "kernel_input_feature_dimension": 0,
        "kernel_output_feature_dimension": 0, "kernel_spatial_dimensions": _DIMS,
        "output_batch_dimension": 0, "output_feature_dimension": 0,
        "output_spatial_dimensions": _DIMS,
    },
    "channel_handle": {"handle": 0, "type": 0},
    "output_operand_alias": {
        "output_tuple_indices": _DIMS, "operand_index": 0, "operand_tuple_indices": _DIMS,
    },
    "dot_algorithm": {
        "lhs_precision_type": "", "rhs_precision_type": "", "accumulation_type": "",
        "lhs_component_count": 1, "rhs_component_count": 1, "num_primitive_operations": 1,
        "allow_imprecise_accumulation": False,
    },
    "result_accuracy": {"atol": 0.0, "rtol": 0.0, "ulps": 0, "mode": "DEFAULT"},
}  # fmt: skip
"""The fields of attributes that are structures, each with what it is where the text leaves it out.
"""

_ENUMS = {
    "comparison_direction", "comparison_type", "precision", "fft_type", "transpose",
    "rng_algorithm", "rng_distribution", "result_accuracy_mode",
}  # fmt: skip
_BITS = {"f16": "<e", "bf16": "<f", "f32": "<f", "f64": "<d"}


def is_ignored(name: str) -> bool:
    """Whether an attribute is of a dialect that says where a program runs, not what it is."""
    return name.startswith(("mhlo.", "sdy.")) and name != TYPED_CONFIG


class Attributes:
    """Reads attributes at a cursor. `aliases` and `resources` are those that the text defines."""

    def __init__(self, cursor: Cursor, types: Types) -> None:
        self.cursor = cursor
        self.types = types
        self.aliases: dict[str, Any] = {}
        self.resources: dict[str, tuple[str, int]] = {}

    def dictionary(self) -> dict[str, Any]:
        """`{name = attribute, ..}`; a name alone is True. Those that are ignored are not kept."""
        cursor = self.cursor
        found: dict[str, Any] = {}
        seen: set[str] = set()

        def entry() -> None:
            at = cursor.start
            if cursor.kind == "string":
                name = cursor.string()
            else:
                name = cursor.take("bare", "the name of an attribute")
            if name in seen:
                raise cursor.error(f"the attribute {name} stands here twice", at)
            seen.add(name)
            value = self.any() if cursor.accept("=") else True
            if not is_ignored(name):
                found[name] = value

        with cursor.nested():
            cursor.expect("{")
            cursor.list_of(entry, "}")
        return found

    def optional(self) -> dict[str, Any]:
        """The dictionary that is here, or an empty one."""
        return self.dictionary() if self.cursor.at("{") else {}

    def any(self) -> Any:
        """Any attribute."""
        cursor = self.cursor
        if cursor.kind in ("int", "float") or cursor.at("-"):
            return self.number()
        if cursor.kind == "string":
            value = cursor.string()
            if cursor.accept(":"):
                self.types.any()
            return value
        if cursor.kind == "symbol":
            return self._symbols()
        if cursor.kind == "hash":
            with cursor.nested():
                return self._dialect()
        if cursor.at("["):
            return self.array()
        if cursor.at("{"):
            return self.dictionary()
        if cursor.kind == "bare":
            read = _WORDS.get(cursor.token)
            if read:
                return read(self)
        if self.types.at_type():
            return self.types.any()
        raise cursor.expected("an attribute")

    def array(self) -> tuple[Any, ...]:
        """`[attribute, ..]`."""
        found: list[Any] = []
        with self.cursor.nested():
            self.cursor.expect("[")
            self.cursor.list_of(lambda: found.append(self.any()), "]")
        return tuple(found)

    def integer(self) -> int:
        """An integer, with a type or without."""
        at, value = self.cursor.start, self.number()
        if not isinstance(value, int):
            raise self.cursor.error("expected an integer", at)
        return value

    def number(self, typed: bool = True) -> int | float:
        """A number, with the type that follows if `typed`: `1 : i32`, `0.5`, `0x7F800000 : f32`."""
        cursor = self.cursor
        at, negative = cursor.start, cursor.accept("-")
        hexadecimal = cursor.token.startswith("0x")
        if cursor.kind == "float":
            value: int | float = float(cursor.advance()) * (-1 if negative else 1)
        else:
            value = cursor.integer(negative)
        if not typed or not cursor.accept(":"):
            return value
        type = self.types.any()
        if type in FLOATS and hexadecimal and isinstance(value, int):
            return self._bits(value, str(type), at)
        if type in FLOATS:
            return rounded(float(value), str(type))
        if type not in STORAGE or isinstance(value, float):
            raise cursor.error(f"a number cannot have the type {type}", at)
        return value

    def _bits(self, bits: int, type: str, at: int) -> float:
        width = 16 if type in ("f16", "bf16") else int(type[1:])
        if bits < 0 or bits >> width:
            raise self.cursor.error(f"expected the {width} bits of a number", at)
        bits <<= 16 if type == "bf16" else 0
        raw = bits.to_bytes(struct.calcsize(_BITS[type]), "little")
        value: float = struct.unpack(_BITS[type], raw)[0]
        return value

    def _symbols(self) -> str:
        """`@name`, or `@name::@inner`."""
        name = self.cursor.symbol()
        while self.cursor.accept("::"):
            name += "::" + self.cursor.symbol()
        return name

    def dims(self) -> tuple[int, ...]:
        """`[1, 2]`, of integers alone."""
        found: list[int] = []
        self.cursor.expect("[")
        self.cursor.list_of(lambda: found.append(self.cursor.integer()), "]")
        return tuple(found)

    def integers(self) -> tuple[int, ...] | tuple[bool, ...] | tuple[float, ...]:
        """`array<i64: 1, 2>`, or `[1, 2]` which some operations write for it."""
        if self.cursor.at("["):
            return self.dims()
        return self._row()

    def _row(self) -> Any:
        cursor = self.cursor
        cursor.expect("array")
        cursor.expect("<")
        at, type = cursor.start, self.types.any()
        if type not in STORAGE:
            raise cursor.error("expected the type of numbers", at)
        found: list[Any] = []

        def element() -> None:
            if type == "i1" and (cursor.at("true") or cursor.at("false")):
                found.append(cursor.advance() == "true")
            elif type in FLOATS:
                found.append(float(self.number()))
            else:
                found.append(bool(cursor.integer()) if type == "i1" else cursor.integer())

        if cursor.accept(">"):
            return ()
        cursor.expect(":")
        cursor.list_of(element, ">")
        return tuple(found)

    def dense(self) -> Constant:
        """`dense<..> : type` or `dense_resource<..> : type`."""
        cursor = self.cursor
        at = cursor.start
        if cursor.at("dense_resource"):
            cursor.advance()
            cursor.expect("<")
            name = cursor.string() if cursor.kind == "string" else cursor.take("bare", "a name")
            cursor.expect(">")
            cursor.expect(":")
            type = self.types.tensor()
            if name not in self.resources:
                raise cursor.error(f"the text defines no resource {name!r}", at)
            quoted, place = self.resources[name]
            data = dense.hexadecimal(cursor, quoted, place)
            if len(data) < 4:
                raise cursor.error("a resource without the 4 bytes of its alignment", place)
            return dense.from_blob(cursor, data[4:], place, type, splat=False)
        cursor.expect("dense")
        inner, start = dense.body(cursor)
        cursor.expect(":")
        type = self.types.tensor()
        return dense.constant(cursor, inner, start, type)

    def constant(self) -> Constant:
        """A constant, or an alias of one."""
        at, value = self.cursor.start, self.any()
        if not isinstance(value, Constant):
            raise self.cursor.error("expected a constant, as dense<0.0> : tensor<2xf32>", at)
        return value

    def enum(self) -> str:
        """A case of an enumeration: a word, or `#stablehlo<precision DEFAULT>`."""
        cursor = self.cursor
        if cursor.kind == "bare":
            return cursor.advance()
        at, value = cursor.start, self.any()
        if not isinstance(value, str):
            raise cursor.error("expected the case of an enumeration", at)
        return value

    def _dialect(self) -> Any:
        """`#alias`, `#dialect.name<..>` or `#dialect<name ..>`. One that is not known is its text.
        """
        cursor = self.cursor
        at, name = cursor.start, cursor.token[1:]
        if name in self.aliases:
            cursor.advance()
            return self.aliases[name]
        dialect, _, mnemonic = name.partition(".")
        if dialect not in ("stablehlo", "chlo"):
            return self._unknown(at)
        cursor.advance()
        if not mnemonic:  # #stablehlo<precision DEFAULT>, #stablehlo<scatter<..>>
            cursor.expect("<")
            mnemonic = cursor.take("bare", "the name of an attribute")
            value = self._named(mnemonic, at)
            cursor.expect(">")
            return value
        if mnemonic in _ENUMS:
            cursor.expect("<")
            value = self._named(mnemonic, at)
            cursor.expect(">")
            return value
        return self._named(mnemonic, at)

    def _named(self, mnemonic: str, at: int) -> Any:
        cursor = self.cursor
        if mnemonic in _ENUMS:
            return cursor.take("bare", f"a case of {mnemonic}")
        if mnemonic == "conv":
            cursor.expect("<")
            if cursor.accept("raw"):
                return self._fields(STRUCTURES["conv"])
            value = self.convolution()
            cursor.expect(">")
            return value
        if mnemonic in STRUCTURES:
            cursor.expect("<")
            return self._fields(STRUCTURES[mnemonic])
        raise cursor.unsupported(f"the attribute {mnemonic} is not supported", at)

    def structure(self, mnemonic: str) -> dict[str, Any]:
        """The fields of a structure in `<..>`, whose name was read or is known."""
        self.cursor.expect("<")
        return self._fields(STRUCTURES[mnemonic])

    def _fields(self, defaults: dict[str, Any]) -> dict[str, Any]:
        cursor = self.cursor
        found = dict(defaults)
        seen: set[str] = set()

        def field() -> None:
            at, name = cursor.start, cursor.take("bare", "the name of a field")
            if name not in defaults or name in seen:
                raise cursor.error(f"expected one of {', '.join(defaults)}, each once", at)
            seen.add(name)
            cursor.expect("=")
            default = defaults[name]
            if isinstance(default, tuple):
                found[name] = self.dims()
            elif isinstance(default, bool):
                found[name] = self.truth()
            elif isinstance(default, int):
                found[name] = cursor.integer()
            elif isinstance(default, float):
                found[name] = float(self.number())
            elif name == "mode":
                found[name] = self.enum()
            else:  # a type of elements, of which a product may use more than tensors have
                found[name] = cursor.take("bare", "a type of elements")

        while not cursor.accept(">"):
            field()
            if not cursor.accept(",") and not cursor.at(">"):
                raise cursor.expected("',' or '>'")
        return found

    def truth(self) -> bool:
        """`true` or `false`."""
        if not self.cursor.at("true") and not self.cursor.at("false"):
            raise self.cursor.expected("'true' or 'false'")
        return self.cursor.advance() == "true"

    def convolution(self) -> dict[str, Any]:
        """`[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]`."""
        cursor = self.cursor
        found: dict[str, Any] = {}

        def side(name: str, letters: dict[str, str]) -> None:
            at = cursor.start
            places: dict[str, int] = {}
            cursor.expect("[")

            def entry() -> None:
                key = cursor.token
                known = key in letters if cursor.kind == "bare" else cursor.kind == "int"
                if not known or key in places:
                    raise cursor.expected(f"a number or one of {', '.join(letters)}, each once")
                cursor.advance()
                places[key] = len(places)

            cursor.list_of(entry, "]")
            spatial = [str(n) for n in range(len(places) - len(letters))]
            if set(places) != {*letters, *spatial}:
                raise cursor.error(f"expected {', '.join(letters)} and numbers from 0", at)
            for letter, field in letters.items():
                found[f"{name}_{field}_dimension"] = places[letter]
            found[f"{name}_spatial_dimensions"] = tuple(places[n] for n in spatial)

        outer = {"b": "batch", "f": "feature"}
        side("input", outer)
        if cursor.kind == "bare" and cursor.token == "x":
            cursor.advance()
        else:
            raise cursor.expected("'x'")
        side("kernel", {"i": "input_feature", "o": "output_feature"})
        cursor.expect("->")
        side("output", outer)
        return found

    def _unknown(self, at: int) -> str:
        """An attribute of another dialect, as its text."""
        cursor = self.cursor
        cursor.advance()
        if cursor.at("<"):
            cursor.skip_balanced()
        return re.sub(r"\s+", " ", cursor.text[at : cursor.start]).strip()

    def _builtin(self) -> str:
        """`affine_map<..>` and the like, as its text."""
        at = self.cursor.start
        self.cursor.advance()
        if not self.cursor.at("<"):
            raise self.cursor.expected("'<'")
        self.cursor.skip_balanced()
        return self.cursor.text[at : self.cursor.start].strip()

    def _location(self) -> str:
        self.cursor.skip_location()
        return "loc"

    def _unit(self) -> bool:
        self.cursor.advance()
        return True

    def _sparse(self) -> Any:
        raise self.cursor.unsupported("sparse constants are not supported")


_WORDS: dict[str, Callable[[Attributes], Any]] = {
    "true": Attributes.truth,
    "false": Attributes.truth,
    "unit": Attributes._unit,
    "array": Attributes._row,
    "dense": Attributes.dense,
    "dense_resource": Attributes.dense,
    "sparse": Attributes._sparse,
    "loc": Attributes._location,
    "affine_map": Attributes._builtin,
    "affine_set": Attributes._builtin,
    "strided": Attributes._builtin,
    "opaque": Attributes._builtin,
}
