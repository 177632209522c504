"""A StableHLO program as a Graph: each operation by its rule, functions in place of their calls.

Sizes that a program computes (`get_dimension_size` and arithmetic on it) are followed beside the
graph, so that what `dynamic_reshape` and the like are given is an Expr over the sizes of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule import ops
from ferrule.base.dtype import DType
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.frontend.stablehlo import rules as _rules  # fills the table  # noqa: F401
from ferrule.frontend.stablehlo.known import fold
from ferrule.frontend.stablehlo.module import (
    Constant,
    Function,
    Module,
    Operation,
    Place,
    Region,
    TensorType,
    TokenType,
    TupleType,
)
from ferrule.frontend.stablehlo.module import Value as Named
from ferrule.frontend.stablehlo.table import (
    COMPLEX,
    RULES,
    Complex,
    Context,
    Known,
    Rule,
    Token,
    Tuple,
    Val,
    as_known,
    dtype_of,
    is_complex,
)
from ferrule.ir.agree import Equal, agree
from ferrule.ir.expr import Expr, as_index, dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.simplify import equal

_RETURNS = ("stablehlo.return", "func.return")
_KNOWN_ELEMENTS = 64
_DEPTH = 100


@dataclass(frozen=True, eq=False)
class Conversion:
    """A graph, the arrays of its params, and the types of what the program is given and gives.

    A complex tensor is one of its parts with a last dimension of 2 in the graph: real and
    imaginary. Tokens are neither given nor returned.
    """

    graph: Graph
    params: tuple[NDArray[Any], ...]
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


def convert(
    module: Module,
    entry: str = "main",
    extra: Mapping[str, Rule] | None = None,
    fixed: Mapping[int, NDArray[Any]] | None = None,
    alike: Mapping[tuple[int, int], tuple[int, int]] | None = None,
) -> Conversion:
    """The function `entry` of a program, with all that it calls. `extra` are rules for operations
    that have none here. `fixed` are arrays, in storage form, that arguments always are, by their
    places: they are constants of the graph, and no inputs. `alike` are sizes that are those of
    earlier arguments, as (argument, dim). Raises UnsupportedError and CompileError with the
    operation and its place.
    """
    function = module.functions.get(entry)
    if function is None:
        known = ", ".join(f"@{name}" for name in module.functions) or "none"
        raise UnsupportedError(f"the program has no function @{entry}; it has {known}")
    same = {_size_name(*at): dim(_size_name(*first), 0) for at, first in (alike or {}).items()}
    while True:
        try:
            converter = StableHloConverter(module, entry, dict(extra or {}), same)
            return converter.whole(function, fixed or {})
        except Equal as found:
            same = found.added(same)


def _size_name(k: int, d: int) -> str:
    """The name of a size of an argument."""
    return f"d{k}_{d}"


@dataclass
class StableHloConverter:
    """Builds one graph; the state of a conversion."""

    module: Module
    name: str
    extra: Mapping[str, Rule]
    same: Mapping[str, Expr] = field(default_factory=dict)  # what dims of inputs are known to be
    active: list[str] = field(default_factory=list)  # the functions that are being called
    whole_tensors: bool = False  # whether scalars of the program stand for tensors
    params: list[NDArray[Any]] = field(default_factory=list)
    numbers: dict[Value, Known] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.b = GraphBuilder(self.name)

    def whole(self, function: Function, fixed: Mapping[int, NDArray[Any]]) -> Conversion:
        """The graph of a function, of whose arguments some are fixed."""
        given, types = list[Val](), list[TensorType]()
        for k, v in enumerate(function.body.arguments):
            if isinstance(v.type, TokenType):
                given.append(Token())
                continue
            if not isinstance(v.type, TensorType) or v.type.shape is None:
                raise UnsupportedError(f"argument {k} of @{function.name} is {v.type}, no tensor")
            if k in fixed:
                given.append(self.constant(v, fixed[k]))
                continue
            types.append(v.type)
            given.append(self.input(k, v.type))
        results = self.function(function, self.b, given)
        kept = [(v, t) for v, t in zip(results, function.results) if not isinstance(v, Token)]
        outputs = []
        for v, t in kept:
            if not isinstance(t, TensorType):
                raise UnsupportedError(f"@{function.name} returns {t}, no tensor")
            outputs.append(_joined(self.b, v))
        graph = self.b.build(outputs)
        found = tuple(t for _, t in kept if isinstance(t, TensorType))
        return Conversion(graph, tuple(self.params), tuple(types), found)

    def input(self, k: int, t: TensorType) -> Val:
        """Input `k` of the graph."""
        assert t.shape is not None
        sizes = [self.size(_size_name(k, d)) if n is None else n for d, n in enumerate(t.shape)]
        if not is_complex(t):
            v = self.b.input(tensor(sizes, dtype_of(t)), f"x{k}")
            if not sizes and v.dtype.is_int:
                # a size that the program is given, where a shape needs it
                self.numbers[v] = as_known(self.size(v.name)).reshape(())
            return v
        both = self.b.input(tensor([*sizes, 2], dtype_of(t)), f"x{k}")
        return Complex(*(ops.select_index(self.b, both, len(sizes), i) for i in (0, 1)))

    def constant(self, v: Named, array: NDArray[Any]) -> Val:
        """An array as if the program held it."""
        assert isinstance(v.type, TensorType)
        value = {"value": Constant(v.type, array)}
        made = Operation("stablehlo.constant", (), (v,), value, (), Place(0, 0))
        (found,) = self.operation(made, self.b, {})
        return found

    def size(self, name: str) -> Expr:
        """The size of an input's dimension."""
        return self.same.get(name) or dim(name, 0)

    def function(self, f: Function, b: GraphBuilder, given: Sequence[Val]) -> tuple[Any, ...]:
        """What `f` returns, built with `b`."""
        if f.name in self.active:
            raise UnsupportedError(f"@{f.name} calls itself: {' -> '.join(self.active)}")
        if len(self.active) == _DEPTH:
            raise UnsupportedError(f"@{f.name} is called more than {_DEPTH} calls deep")
        self.active.append(f.name)
        out = self.region(f.body, b, given, {})
        self.active.pop()
        return out

    def region(
        self, region: Region, b: GraphBuilder, given: Sequence[Val], around: Mapping[str, Val]
    ) -> tuple[Any, ...]:
        """What a region returns for the values `given`, among those of the regions `around`."""
        if len(given) != len(region.arguments):
            raise CompileError(f"a region of {len(region.arguments)} arguments is given {given}")
        env = {**around, **{v.name: x for v, x in zip(region.arguments, given)}}
        for op in region.operations:
            if op.name in _RETURNS:
                return tuple(env[name] for name in op.operands)
            results = self.operation(op, b, env)
            env.update((v.name, x) for v, x in zip(op.results, results, strict=True))
        return ()

    def of_elements(
        self, region: Region, b: GraphBuilder, given: Sequence[Val], around: Mapping[str, Val]
    ) -> tuple[Any, ...]:
        """What a region of scalars makes of tensors, element by element."""
        before, self.whole_tensors = self.whole_tensors, True
        try:
            return self.region(region, b, given, around)
        finally:
            self.whole_tensors = before

    def operation(self, op: Operation, b: GraphBuilder, env: Mapping[str, Val]) -> tuple[Any, ...]:
        """The results of an operation. Errors name it and its place."""
        operands = [env[name] for name in op.operands]
        cx = Context(
            b, op,
            lambda region, inner, given: self.region(region, inner, given, env),
            lambda region, inner, given: self.of_elements(region, inner, given, env),
            self.call, self.known, self.param,
        )  # fmt: skip
        b.location = str(op.place)
        try:
            found = self.extra.get(op.name) or RULES.get(op.name)
            if found is None:
                raise UnsupportedError("it has no rule")
            out = _built(found, cx, operands)
            several = out if isinstance(out, tuple) else (out,)
            several = several[: len(op.results)] if not op.results else several
            for v, x in zip(op.results, several, strict=True):
                _check_type(v.type, x, self.whole_tensors)
        except FerruleError as error:
            said = str(error)
            at = f"{op.name} at {op.place}"
            raise type(error)(said if " at line " in said else f"{at}: {said}") from error
        self.follow(op, operands, several)
        return several

    def follow(self, op: Operation, operands: Sequence[Val], results: Sequence[Val]) -> None:
        """Keep the numbers of a small integer result that follows from known ones."""
        if len(results) != 1 or not isinstance(results[0], Value):
            return
        v = results[0]
        small = v.dtype.is_int or v.dtype.is_bool
        if v in self.numbers or not small or not all(n.is_const for n in v.shape):
            return
        shape = tuple(int(n.attr) for n in v.shape)
        if np.prod(shape, dtype=np.int64) <= _KNOWN_ELEMENTS:
            found = fold(op, [self.known(x) for x in operands], operands, shape, v.dtype)
            if found is not None:
                self.numbers[v] = found

    def call(self, name: str, b: GraphBuilder, given: Sequence[Val]) -> tuple[Any, ...]:
        """What a function of the program returns."""
        f = self.module.functions.get(name)
        if f is None:
            raise UnsupportedError(f"the program has no function @{name}")
        return self.function(f, b, given)

    def known(self, v: Any) -> Known | None:
        return self.numbers.get(v) if isinstance(v, Value) else None

    def param(self, array: NDArray[Any], dtype: DType) -> Value:
        """An array that is known before the first run."""
        self.params.append(array)
        return self.b.param(tensor(array.shape, dtype))


def _built(found: Rule, cx: Context, operands: Sequence[Val]) -> Any:
    if found.kind == "elements":
        first, *others = (x for x in operands if isinstance(x, Value | Complex))
        for x in others:
            if x.rank == first.rank:
                agree(first.shape, x.shape)
    if found.kind == "elements" and any(isinstance(x, Complex) for x in operands):
        build = COMPLEX.get(cx.op.name)
        if build is None:
            raise UnsupportedError("it has no rule for complex numbers")
        return build(cx, *operands)
    return found.build(cx, *operands)


def _check_type(declared: Any, found: Val, larger: bool) -> None:
    """Raises CompileError where a result is not what the program says that it is; `larger`, scalars
    may be tensors.
    """
    if isinstance(found, Token):
        fits = isinstance(declared, TokenType)
    elif isinstance(found, Tuple):
        fits = isinstance(declared, TupleType)
    else:
        fits = isinstance(declared, TensorType) and _fits(declared, found, larger)
    if not fits:
        shown = found if isinstance(found, Token | Tuple) else f"{found.dtype}{list(found.shape)}"
        raise CompileError(f"its result is {shown}, and should be {declared}")


def _fits(declared: TensorType, found: Value | Complex, larger: bool) -> bool:
    if dtype_of(declared) != found.dtype or is_complex(declared) != isinstance(found, Complex):
        return False
    shape = declared.shape
    return (
        shape is None
        or (larger and not shape)
        or (
            len(shape) == found.rank
            and all(n is None or equal(as_index(n), own) for n, own in zip(shape, found.shape))
        )
    )


def _joined(b: GraphBuilder, v: Any) -> Value:
    """A tensor of the graph's: complex parts stacked behind each other."""
    if isinstance(v, Complex):
        return ops.stack(b, [v.real, v.imag], v.rank)
    if not isinstance(v, Value):
        raise UnsupportedError(f"the program returns {v}")
    return v


