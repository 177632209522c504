"""Reading ONNX: files and protobufs as the plain data of `onnx_model`.

Everything that a file says about sizes is checked against the bytes that are there before memory
is taken, and external data must lie in the model's own folder. Functions of the model, and
operators that are defined by a function body and by nothing else, are expanded here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.errors import FerruleError, InputError, ParseError, UnsupportedError
from ferrule.frontend.onnx.expand import EXPANSIONS
from ferrule.frontend.onnx.model import Array, Body, Model, Op, Port, Size, make_body

_DEPTH = 64
_EXTERNAL = 1
Known = Callable[[str, str, int], bool]


def load_model(source: Any, known: Known) -> Model:
    """The model in a file, in bytes or in a ModelProto.

    `known(domain, operator, version)` says whether there is a rule for an operator: others are
    replaced by the body of the function that defines them. Raises ParseError for malformed files,
    InputError for graphs that do not fit together, UnsupportedError for what is not known.
    """
    onnx = _onnx()
    folder: Path | None = None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        folder, source = path.parent, _read(path)
    if isinstance(source, bytes):
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(source)
        except Exception as error:
            raise ParseError(f"this is no ONNX model: {error}") from None
    elif type(source).__name__ == "ModelProto":
        proto = source
    else:
        raise InputError(f"an ONNX model is a path, bytes or a ModelProto, not {type(source)}")
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ParseError("this is no ONNX model: it has no graph")
    opsets = {domain_of(o.domain): int(o.version) for o in proto.opset_import} or {"": 1}
    functions = {_key(f): f for f in proto.functions}
    try:
        body = _Reader(opsets, folder, known, functions).graph(proto.graph)
    except FerruleError:
        raise
    except (UnicodeDecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ParseError(f"this ONNX model is malformed: {error}") from error
    return Model(body, opsets, proto.producer_name)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise UnsupportedError(
            "reading ONNX models needs the onnx package: pip install 'ferrule[onnx]'"
        ) from None
    return onnx


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the model {str(path)!r} can't be read: {error.strerror}") from None


def text(x: Any) -> str:
    """A string of a protobuf, which comes as bytes where it is no UTF-8. Raises ParseError."""
    if not isinstance(x, str):
        raise ParseError(f"this ONNX model has a name that is no text: {x!r}")
    return x


def domain_of(name: str) -> str:
    """A domain's name; the default one is ""."""
    return "" if name == "ai.onnx" else name


def _key(f: Any) -> tuple[str, str, str]:
    return domain_of(f.domain), f.name, getattr(f, "overload", "")


@dataclass(frozen=True)
class _Reader:
    """What decoding a graph needs; `rename` and `given` are those of the function being expanded.

    `rename` maps the function's names to those of the model, which get `prefix`; `given` are the
    attributes that its nodes refer to.
    """

    opsets: Mapping[str, int]
    folder: Path | None
    known: Known
    functions: Mapping[tuple[str, str, str], Any]
    depth: int = 0
    prefix: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] | None = None

    # ---- graphs ----------------------------------------------------------------------------------

    def graph(self, g: Any, outer: bool = False) -> Body:
        if self.depth > _DEPTH:
            raise ParseError(f"this ONNX model nests graphs or functions over {_DEPTH} deep")
        constants = {self.name(t.name): tensor_array(t, self.folder) for t in g.initializer}
        for s in g.sparse_initializer:
            constants[self.name(s.values.name)] = sparse_array(s, self.folder)
        inputs = [self.port(v) for v in g.input]
        return make_body(
            text(g.name) or "main",
            [p for p in inputs if p.name not in constants],
            [self.port(v) for v in g.output],
            constants,
            self.ops(g.node),
            outer,
        )

    def ops(self, nodes: Iterable[Any]) -> list[Op]:
        return [op for i, n in enumerate(nodes) for op in self.node(n, i)]

    def node(self, n: Any, index: int) -> list[Op]:
        domain, kind = domain_of(text(n.domain)), text(n.op_type)
        version = self.opsets.get(domain, 1)
        attrs = {text(a.name): a for a in n.attribute}
        values: dict[str, Any] = {}
        for name, a in attrs.items():
            value = self.attribute(a)
            if value is not None:
                values[name] = value
        inputs, outputs = map(self.name, n.input), map(self.name, n.output)
        op = Op(kind, domain, version, tuple(inputs), tuple(outputs), values, text(n.name))
        local = self.functions.get((domain, kind, getattr(n, "overload", "")))
        if local is not None:
            opsets = {domain_of(o.domain): int(o.version) for o in local.opset_import}
            return self.expand(op, local, {**self.opsets, **opsets}, index)
        expansion = EXPANSIONS.get((domain, kind))
        if expansion is not None:
            return expansion(op)
        if self.known(domain, kind, version):
            return [op]
        body = _function_body(domain, kind, version)
        if body is None:
            return [op]
        defaults = {a.name: self.attribute(a) for a in _defaults(domain, kind, version)}
        return self.expand(replace(op, attrs={**defaults, **op.attrs}), body, self.opsets, index)

    def expand(self, op: Op, f: Any, opsets: Mapping[str, int], index: int) -> list[Op]:
        """The nodes of the function `f` in place of `op`."""
        if self.depth > _DEPTH:
            raise ParseError(f"the function {op.title} calls itself")
        label = next((o for o in op.outputs if o), op.name)
        prefix = f"{self.prefix}{label}.{index}/"
        names = dict.fromkeys(f.input, "")
        names.update(zip(f.input, op.inputs))
        aliases = []
        for inner, outer in zip(f.output, op.outputs):
            if inner in names and outer:
                aliases.append(Op("Identity", "", opsets.get("", 1), (names[inner],), (outer,)))
            elif outer:
                names[inner] = outer
        defaults = {a.name: self.attribute(a) for a in getattr(f, "attribute_proto", ())}
        reader = _Reader(
            opsets, self.folder, self.known, self.functions, self.depth + 1, prefix, names,
            {**defaults, **op.attrs},
        )  # fmt: skip
        return [*reader.ops(f.node), *aliases]

    def name(self, n: str) -> str:
        """A value's name in the model."""
        n = text(n)
        if not n or not self.prefix:
            return n
        return self.rename[n] if n in self.rename else self.prefix + n

    # ---- parts -----------------------------------------------------------------------------------

    def port(self, v: Any) -> Port:
        """A ValueInfo as a Port."""
        return port_of(self.name(v.name), v.type)

    def attribute(self, a: Any) -> Any:
        """An attribute's value; None where it refers to an attribute that is not given."""
        if a.ref_attr_name:
            return (self.given or {}).get(a.ref_attr_name)
        kind = int(a.type)
        if kind in (5, 10):
            inner = _Reader(
                self.opsets, self.folder, self.known, self.functions, self.depth + 1, self.prefix,
                self.rename, self.given,
            )  # fmt: skip
            graphs = [a.g] if kind == 5 else a.graphs
            bodies = tuple(inner.graph(g, outer=True) for g in graphs)
            return bodies[0] if kind == 5 else bodies
        return plain_attribute(a, kind, self.folder)


def plain_attribute(a: Any, kind: int, folder: Path | None) -> Any:
    """The value of an attribute that is no graph."""
    if kind == 1:
        return float(a.f)
    if kind == 2:
        return int(a.i)
    if kind == 3:
        return a.s.decode("utf-8", "surrogateescape")
    if kind == 4:
        return tensor_array(a.t, folder)
    if kind == 6:
        return tuple(map(float, a.floats))
    if kind == 7:
        return tuple(map(int, a.ints))
    if kind == 8:
        return tuple(s.decode("utf-8", "surrogateescape") for s in a.strings)
    if kind == 9:
        return tuple(tensor_array(t, folder) for t in a.tensors)
    if kind == 11:
        return sparse_array(a.sparse_tensor, folder)
    if kind == 13:
        return port_of("", a.tp)
    if kind == 0:  # written before attributes had types
        return _guessed(a, folder)
    raise UnsupportedError(f"the attribute {a.name!r} has a type that is not known ({kind})")


def _guessed(a: Any, folder: Path | None) -> Any:
    fields = (("f", 1), ("i", 2), ("s", 3), ("t", 4))
    for name, kind in fields:
        if a.HasField(name):
            return plain_attribute(a, kind, folder)
    for name, kind in (("floats", 6), ("ints", 7), ("strings", 8)):
        if len(getattr(a, name)):
            return plain_attribute(a, kind, folder)
    return ()


def port_of(name: str, t: Any) -> Port:
    """A TypeProto as a Port."""
    kind = t.WhichOneof("value") or ""
    if kind == "tensor_type":
        return Port(name, "tensor", _element(t.tensor_type.elem_type), _shape(t.tensor_type))
    if kind in ("sequence_type", "optional_type"):
        inner = port_of(name, getattr(t, kind).elem_type)
        return Port(name, kind.removesuffix("_type"), inner.dtype, inner.shape)
    return Port(name)


def _element(code: int) -> np.dtype[Any] | None:
    from onnx import helper

    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(code)) if code else None
    except KeyError:
        raise ParseError(f"this ONNX model has tensors of an unknown type, number {code}") from None


def _shape(t: Any) -> tuple[Size, ...] | None:
    if not t.HasField("shape"):
        return None
    out: list[Size] = []
    for d in t.shape.dim:
        which = d.WhichOneof("value")
        if which == "dim_value" and d.dim_value < -1:
            raise ParseError(f"this ONNX model has a tensor of negative size {d.dim_value}")
        known = which == "dim_value" and d.dim_value >= 0  # exporters write -1 for unknown sizes
        name = text(d.dim_param)  # of unknown sizes too, some have one: "?"
        out.append(d.dim_value if known else name if re.search(r"[^\W\d]", name) else None)
    return tuple(out)


# ---- tensors -------------------------------------------------------------------------------------


def tensor_array(t: Any, folder: Path | None) -> Array:
    """A TensorProto as an array. Raises ParseError where its bytes are not as many as it says."""
    shape = tuple(int(d) for d in t.dims)
    if any(d < 0 for d in shape):
        raise ParseError(f"the tensor {t.name!r} has a negative size: {list(shape)}")
    dtype = _element(t.data_type)
    if dtype is None:
        raise ParseError(f"the tensor {t.name!r} has no type")
    if t.data_location == _EXTERNAL:
        return _external(t, shape, dtype, folder)
    count = prod(shape)
    if t.HasField("raw_data"):
        return _raw(t.name, t.raw_data, shape, dtype)
    from onnx import numpy_helper

    held = max(len(getattr(t, f)) for f in _FIELDS)
    if held * 8 < count:
        raise ParseError(f"the tensor {t.name!r} of shape {list(shape)} holds {held} numbers")
    try:
        array: Array = np.asarray(numpy_helper.to_array(t))
    except (ValueError, TypeError) as error:
        raise ParseError(f"the tensor {t.name!r} is malformed: {error}") from None
    if dtype == np.dtype(object):
        return np.array([_text(x) for x in array.ravel()], object).reshape(shape)
    return array


_FIELDS = (
    "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data",
)  # fmt: skip


def _text(x: Any) -> str:
    return x.decode("utf-8", "surrogateescape") if isinstance(x, bytes) else str(x)


def _bits(dtype: np.dtype[Any]) -> int:
    """The bits that an element takes in a file."""
    for width in (2, 4):
        if dtype.name in (f"int{width}", f"uint{width}") or dtype.name.startswith(f"float{width}_"):
            return width
    return dtype.itemsize * 8


def _raw(name: str, data: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    bits, count = _bits(dtype), prod(shape)
    expected = -(-count * bits // 8)
    if len(data) != expected:
        raise ParseError(
            f"the tensor {name!r} of {dtype} and shape {list(shape)} needs {expected} bytes, and "
            f"has {len(data)}"
        )
    if bits >= 8:
        return np.frombuffer(data, dtype).reshape(shape)
    return _unpacked(np.frombuffer(data, np.uint8), bits, count).reshape(shape).view(dtype)


def _unpacked(data: Array, bits: int, count: int) -> Array:
    """Elements of 2 or 4 bits, one a byte, sign bits copied where `ml_dtypes` wants them."""
    parts = [(data >> np.uint8(s)) & np.uint8((1 << bits) - 1) for s in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(-1)[:count].astype(np.uint8)


def _external(t: Any, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None) -> Array:
    """A tensor in a file beside the model, mapped into memory."""
    entries = {e.key: e.value for e in t.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise InputError(
            f"the tensor {t.name!r} lies in the file {location!r}: give the model's path, or load "
            "it with onnx.load"
        )
    root = folder.resolve()
    path = (root / location).resolve()
    if not location or root not in path.parents:
        raise InputError(
            f"the tensor {t.name!r} refers to {location!r}, which is outside of the model's folder"
        )
    offset, length = int(entries.get("offset", 0)), -(-prod(shape) * _bits(dtype) // 8)
    stated = int(entries.get("length", length))
    try:
        size = path.stat().st_size if path.is_file() else -1
    except OSError:
        size = -1
    if size < 0:
        raise InputError(f"the tensor {t.name!r} lies in {location!r}, which can't be read")
    if stated != length or offset < 0 or offset + length > size:
        raise ParseError(
            f"the tensor {t.name!r} of {dtype} and shape {list(shape)} needs {length} bytes, and "
            f"{location!r} has {stated} of {size} for it, from {offset}"
        )
    if not length:
        return np.zeros(shape, dtype)
    return _raw(t.name, np.memmap(path, np.uint8, "r", offset, (length,)), shape, dtype)


def sparse_array(s: Any, folder: Path | None, limit: int = 1 << 28) -> Array:
    """A SparseTensorProto as a dense array of at most `limit` elements."""
    shape = tuple(int(d) for d in s.dims)
    if any(d < 0 for d in shape) or prod(shape) > limit:
        raise ParseError(f"a sparse tensor of shape {list(shape)} is too large, or malformed")
    values, indices = tensor_array(s.values, folder), tensor_array(s.indices, folder)
    out = np.zeros(shape, values.dtype)
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    if flat.size != values.size or (flat.size and not 0 <= flat.min() <= flat.max() < out.size):
        raise ParseError("a sparse tensor has an index out of range")
    out.reshape(-1)[flat] = values
    return out


def _defaults(domain: str, op_type: str, version: int) -> list[Any]:
    """The attributes of an operator that have a value where none is given."""
    from onnx import defs

    attributes = defs.get_schema(op_type, version, domain).attributes.values()
    return [a.default_value for a in attributes if a.default_value.name]


def _function_body(domain: str, op_type: str, version: int) -> Any:
    """The function that defines an operator, None where there is none."""
    from onnx import FunctionProto as onnx_function
    from onnx import defs

    try:
        schema = defs.get_schema(op_type, version, domain)
    except Exception:
        return None
    if not schema.has_function:
        return None
    bodies: Sequence[int] = schema.function_opset_versions
    fit = [v for v in bodies if v <= version]
    if not fit:
        return None
    body = onnx_function()
    body.ParseFromString(schema.get_function_with_opset_version(max(fit)))
    return body
