"""`ferrule.define_operator`: an operator of the user's own, for NumPy, PyTorch and ONNX."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import boolean, f32, from_numpy, i32, u8
from ferrule.base.errors import CompileError, InputError, InputTypeError
from ferrule.frontend.numpy.array import Traced, common_dtype, numpy_dtype, tape_of
from ferrule.frontend.onnx import own as onnx_own
from ferrule.frontend.torch.table import own_rule
from ferrule.ops.own import ElementOperator

_TYPES = (bool, int, float, str)
_KINDS = {"f": f32, "i": i32, "u": u8, "b": boolean}
_ONNX_DOMAINS = ("ai.onnx", "com.microsoft")


def define_operator(
    value: Callable[..., Any] | None = None,
    /,
    *,
    meaning: Callable[..., Any] | None = None,
    name: str = "",
    accepts: str = "fiub",
    onnx: tuple[str, str] | None = None,
) -> Any:
    """Define an operator that works element by element; a decorator.

        from ferrule import elements as el

        @ferrule.define_operator(meaning=lambda x, bound: np.where(np.abs(x) <= bound, 0, x))
        def shrink(x, *, bound=0.5):
            return el.where(el.le(el.abs(x), bound), 0.0, x)

    The decorated function says what one element of the result is, by arithmetic and the functions
    of `ferrule.elements`. Its positional parameters are the operands, which broadcast, and its
    keyword-only ones are attributes: bools, ints, floats, strs or tuples of one of these, as their
    defaults say. `meaning` says the same in NumPy, on whole arrays and with the same attributes:
    it is what results are checked against (`FERRULE_VERIFY=1`).

    f16 and bf16 are computed in f32 and come to both as f32. The result has the operands' dtype,
    unless the function gives another (a comparison gives a bool). Other dtypes are refused where
    the function has no meaning on them, and those whose kind `accepts` lacks: "f" floats, "i" and
    "u" integers, "b" bool.

    What is returned is called like the function, with NumPy arrays, where `meaning` runs, with
    arrays inside of a function that `ferrule.jit` compiles, or with tensors, where it is the
    custom operator `torch.ops.ferrule.NAME`. Operands of several dtypes are promoted as NumPy or
    PyTorch does. In an ONNX model it is a node of the domain and type `onnx`, ("ferrule", name)
    where that is not given.

    A name of one's own may be defined again, and then stands for the new definition: the former
    one can no longer be called, and what was compiled with it stays as it is. Raises InputError for
    a name that is not valid or ferrule's own, for a missing meaning and for a function or a
    signature that is not understood.
    """

    def decorate(fn: Callable[..., Any]) -> UserOperator:
        return _defined(fn, meaning, name, accepts, onnx)

    return decorate if value is None else decorate(value)


class UserOperator:
    """An operator that a user has defined; called like the function that it was made of."""

    def __init__(self, own: ElementOperator, node: tuple[str, str]) -> None:
        functools.update_wrapper(self, own.value)
        self._own, self.onnx = own, node
        self._replaced = False
        self._overload: Any = None
        self._together: Any = None

    def __repr__(self) -> str:
        return f"<ferrule operator {self.name}>"

    def __reduce__(self) -> str:
        """By its name, as a function."""
        return str(getattr(self, "__qualname__", self.name))

    @property
    def name(self) -> str:
        """What graphs call it."""
        return self._own.name

    @property
    def torch_operator(self) -> Any:
        """Its `torch.ops.ferrule.NAME.default`. PyTorch knows it from the first time that this is
        asked for, or that the operator is called with a tensor.
        """
        self._check_current()
        self._known_to_torch()
        return self._overload

    def __call__(self, /, *given: Any, **named: Any) -> Any:
        """The operator of arrays, traced arrays or tensors, with its attributes by name.

        Raises InputTypeError for arguments that do not fit its signature, and CompileError for
        dtypes that it does not take and shapes that do not broadcast.
        """
        self._check_current()
        operands, attributes = self._bound(given, named)
        torch = sys.modules.get("torch")
        if torch is not None and any(isinstance(x, torch.Tensor) for x in operands):
            self._known_to_torch()
            return self._overload(*self._together(operands), **self._own.complete(attributes))
        if any(isinstance(x, Traced) for x in operands):
            tape, dtype = tape_of(*operands), common_dtype(*operands)
            values = [tape.lift(x, dtype) for x in operands]
            return tape.wrap(self._own.build(tape.builder, *values, **attributes))
        return self._on_arrays(operands, attributes)

    def _on_arrays(self, operands: Sequence[Any], attributes: dict[str, Any]) -> Any:
        dtype = common_dtype(*operands)
        kind = from_numpy(dtype)
        arrays = [np.asarray(x).astype(dtype, copy=False) for x in operands]
        if dtype.name == "bfloat16":
            arrays = [x.astype(np.float32) for x in arrays]
        out, result = self._own.run(arrays, kind, attributes)
        return out.astype(numpy_dtype(result))

    def _bound(self, given: Sequence[Any], named: dict[str, Any]) -> tuple[list[Any], Any]:
        """Operands in order, and the attributes that are given."""
        names = self._own.operands
        missing = [n for n in names[len(given) :] if n not in named]
        twice = [n for n in names[: len(given)] if n in named]
        if missing or twice or len(given) > len(names):
            raise InputTypeError(
                f"{self.name} takes the operands {', '.join(names)}, got {len(given)} by place and "
                f"{', '.join(named) or 'nothing'} by name; attributes are given by name"
            )
        operands = [*given, *(named[n] for n in names[len(given) :])]
        return operands, {n: x for n, x in named.items() if n not in names}

    def _check_current(self) -> None:
        if self._replaced:
            raise InputError(
                f"{self.name} has been defined again, and this is the former definition: refer to "
                "the new one"
            )

    def _known_to_torch(self) -> bool:
        """Register the operator with PyTorch, once."""
        if self._overload is None:
            from ferrule.frontend.torch import own as torch_own

            self._overload, self._together = torch_own.register(self._own), torch_own.together
        return True

    # Dynamo runs such a function while it traces, instead of tracing it: a first call may be there.
    _known_to_torch._dynamo_marked_constant = True  # type: ignore[attr-defined]


_DEFINED: dict[str, UserOperator] = {}


def know_all_in_torch() -> None:
    """Register every operator with PyTorch: before it reads programs that may have them."""
    for made in _DEFINED.values():
        made._known_to_torch()


# ---- defining ------------------------------------------------------------------------------------


def _defined(
    fn: Callable[..., Any],
    meaning: Callable[..., Any] | None,
    name: str,
    accepts: str,
    onnx: tuple[str, str] | None,
) -> UserOperator:
    name = name or getattr(fn, "__name__", "")
    if not (name.isidentifier() and name.isascii()) or name.startswith("__"):
        raise InputError(f"{name!r} is no name for an operator: give a Python identifier as name=")
    if meaning is None or not callable(meaning):
        raise InputError(
            f"{name} has no meaning: @ferrule.define_operator(meaning=..) takes a function of "
            "NumPy arrays that says what the operator is"
        )
    operands, defaults = _signature(name, fn)
    _check_meaning(name, meaning, operands, defaults)
    if not accepts or set(accepts) - set(_KINDS):
        raise InputError(f"{name}: accepts={accepts!r} should be some of the letters f, i, u and b")
    node = _node(name, onnx)
    own = ElementOperator(name, fn, meaning, operands, defaults, accepts, fn.__doc__ or "")
    _try(own)
    own.define()
    former = _DEFINED.get(name)
    if former is not None:
        former._replaced = True
        onnx_own.forget(*former.onnx)
    own_rule(own)
    onnx_own.register(own, *node)
    made = _DEFINED[name] = UserOperator(own, node)
    return made


def _signature(name: str, fn: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of the operands, and the attributes with their defaults."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        raise InputError(f"{name}: the signature of {fn!r} is not known") from None
    operands, defaults = [], {}
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise InputError(f"{name}: *{p.name} is neither an operand nor an attribute")
        if p.kind is p.KEYWORD_ONLY:
            defaults[p.name] = _default(name, p)
        elif p.default is not p.empty:
            raise InputError(
                f"{name}: {p.name} has a default, and operands have none: attributes are "
                "keyword-only, write a * before them"
            )
        else:
            operands.append(p.name)
    if not operands:
        raise InputError(f"{name} has no operands: its positional parameters are its operands")
    return tuple(operands), defaults


def _default(name: str, p: inspect.Parameter) -> Any:
    """An attribute's default, whose type is the attribute's."""
    value = p.default
    members = value if isinstance(value, tuple) else (value,)
    kinds = {type(x) for x in members}
    if p.default is p.empty or len(kinds) != 1 or not kinds <= set(_TYPES):
        got = "nothing" if p.default is p.empty else repr(value)
        raise InputError(
            f"{name}: the attribute {p.name} needs a default that tells its type, a bool, int, "
            f"float or str or a tuple of one of these, got {got}"
        )
    return value


def _check_meaning(
    name: str, meaning: Callable[..., Any], operands: tuple[str, ...], defaults: dict[str, Any]
) -> None:
    """Raises InputError for a meaning that does not take these operands and attributes."""
    try:
        signature = inspect.signature(meaning)
    except (TypeError, ValueError):
        return  # of a function written in C nothing is known
    try:
        signature.bind(*operands, **defaults)
    except TypeError as error:
        called = ", ".join([*operands, *(f"{n}={n}" for n in defaults)])
        raise InputError(
            f"{name}: the meaning is called as meaning({called}), and it is of the signature "
            f"{signature}: {error}"
        ) from None


def _node(name: str, onnx: tuple[str, str] | None) -> tuple[str, str]:
    """The domain and type of the operator's nodes in ONNX models."""
    found = ("ferrule", name) if onnx is None else onnx
    if not (isinstance(found, tuple) and len(found) == 2 and all(type(x) is str for x in found)):
        raise InputError(f'{name}: onnx is ("domain", "OpType"), got {onnx!r}')
    domain, kind = found
    if not domain or not kind or any(f"{domain}.".startswith(f"{d}.") for d in _ONNX_DOMAINS):
        raise InputError(
            f"{name}: {domain or 'the default domain'} is not for operators of your own: "
            "onnx=(domain, OpType) names a domain of yours"
        )
    owner = next((d for d in _DEFINED.values() if d.onnx == found and d.name != name), None)
    if owner is not None:
        raise InputError(f"{name}: {owner.name} has the ONNX node {domain}.{kind} already")
    return domain, kind


def _try(own: ElementOperator) -> None:
    """Raises InputError for a function that makes no formula for any dtype that it accepts."""
    errors = []
    for kind in own.accepts:
        try:
            own.formula(_KINDS[kind], {})
            return
        except CompileError as error:
            errors.append(error)
    raise InputError(f"{own.name} can't be defined: {errors[0]}") from errors[0]
