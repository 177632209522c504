"""Which version of a program runs: eager until the compiled one is there (`background`), then the
faster of both (`guard_speed`).

What a user holds changes underneath, once, so that afterwards a call costs what it did before. An
object that `ferrule.compile` gives becomes one of another class: no call passes through here any
more. A function that Dynamo holds stays one call of Python deeper, some 0.1 us.

The decision of a guard is one for a compiled program, for all sizes: it falls on those of the first
calls. Dynamo compiles a program for each set of guards, so with static shapes that is one for each
combination of sizes; with dynamic ones a table by sizes would have to be looked up on each call.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ferrule.api import background
from ferrule.api.guard import Rounds, Verdict, tell
from ferrule.base import log
from ferrule.base.compiler import Compiler
from ferrule.base.config import Settings
from ferrule.base.errors import InputError
from ferrule.pipeline.apart import apart
from ferrule.pipeline.compile import native


def compiler(settings: Settings) -> Compiler:
    """Compiles here, or in another process where it is not waited for."""
    return apart(settings) if settings.background else native(settings)


# ---- functions, for Dynamo -----------------------------------------------------------------------


def arranged(traced: Any, settings: Settings) -> Callable[..., Any]:
    """The function that Dynamo calls for a captured graph, a `frontend.torch.backend.Traced`."""
    if not (settings.background or settings.guard_speed):
        return traced.finish()
    now: Callable[..., Any] = traced.eager

    def call(*args: Any) -> Any:
        return now(*args)

    def ready(compiled: Callable[..., Any]) -> None:
        nonlocal now

        def settle(verdict: Verdict) -> None:
            nonlocal now
            now = compiled if verdict.compiled else traced.eager
            tell(traced.name, verdict)

        guarded = settings.guard_speed and measurable(traced.name, traced.once)
        now = Rounds(compiled, traced.eager, settle) if guarded else compiled

    if settings.background:
        _later(traced.finish, ready, traced.name)
    else:
        ready(traced.finish())
    return call


def measurable(name: str, once: str) -> bool:
    """Whether calls may run twice; tells why not."""
    if once:
        log.warn(f"guard_speed: {name} is not measured, as calls must not run twice: {once}")
    return not once


def _later(compile: Callable[[], Any], ready: Callable[[Any], None], name: str) -> Future[Any]:
    """Compiles in the background, calls `ready` with what that made, and gives it. Tells where it
    fails.
    """

    def job() -> Any:
        try:
            made = compile()
        except Exception as error:
            log.warn(f"{name} stays in eager: {error}")
            raise
        ready(made)
        return made

    return background.start(job)


# ---- objects, of ferrule.compile -----------------------------------------------------------------


def module(traced: Any, reference: Any, settings: Settings) -> Any:
    """A model of PyTorch, a `frontend.torch.module.TracedModule`, as `ferrule.compile` gives it."""
    from ferrule.frontend.torch.module import without_gradients

    if callable(reference):
        eager = without_gradients(reference)
    elif reference or settings.guard_speed or settings.background:
        eager = traced.in_pytorch()
    else:
        return traced.finish()
    guarded = bool(reference) or settings.guard_speed
    guarded = guarded and measurable(traced.name, traced.once)
    return _object(traced.finish, eager, traced.name, guarded, settings.background)


def session(make: Callable[[], Any], reference: Any, settings: Settings) -> Any:
    """An ONNX model, which `make` gives, as `ferrule.compile` gives it. Raises InputError for a
    reference that is not a function.
    """
    if reference and not callable(reference):
        raise InputError(
            "an ONNX model has no eager version: reference must be a function of its arguments, "
            f"not {reference!r}"
        )
    if not reference:
        if settings.guard_speed or settings.background:
            log.warn(
                "guard_speed and background need something that runs beside an ONNX model: give "
                "ferrule.compile a function of its arguments as reference"
            )
        return make()
    return _object(make, reference, "the ONNX model", True, settings.background)


def _object(
    compile: Callable[[], Any], eager: Callable[..., Any], name: str, guarded: bool, later: bool
) -> Any:
    """What `compile` gives, at once or later, with or without a guard."""

    def ready(made: Any) -> None:
        if guarded:
            guard(made, eager, name)

    if later:
        return Pending(eager, compile, name, ready)
    made = compile()
    ready(made)
    return made


class Pending:
    """A model that is being compiled. It is called in eager until then, and becomes what was
    compiled, an object of that class. Whatever else is asked of it, `explain()` say, waits for
    that, and raises what the compilation raised.
    """

    def __init__(
        self,
        eager: Callable[..., Any],
        compile: Callable[[], Any],
        name: str,
        ready: Callable[[Any], None],
    ) -> None:
        self._pending_eager, self._pending_compile = eager, compile
        self._pending_process = os.getpid()

        def done(made: Any) -> None:
            become(self, made)
            ready(self)

        self._pending = _later(compile, done, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._pending_eager(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._made(), name)

    def __reduce__(self) -> Any:
        return self._made().__reduce__()

    def __copy__(self) -> Any:
        return copy.copy(self._made())

    def _made(self) -> Any:
        if self._pending_process != os.getpid() and not self._pending.done():
            become(self, self._pending_compile())  # a fork has no thread that would do it
            return self
        return self._pending.result()


def become(pending: Any, made: Any) -> None:
    """Makes one object another, for all who hold it; calls that are under way end as they began."""
    pending.__dict__.update(made.__dict__)
    pending.__class__ = type(made)


def guard(made: Any, eager: Callable[..., Any], name: str) -> None:
    """Lets the first calls of a compiled model measure it beside `eager`, a function of the same
    arguments. What is kept is called from then on; all else stays as it is.
    """
    kind = type(made)

    def compiled(*args: Any, **kwargs: Any) -> Any:
        return kind.__call__(made, *args, **kwargs)

    def settle(verdict: Verdict) -> None:
        made.__class__ = kind if verdict.compiled else _calling(kind, eager)
        tell(name, verdict)

    made.__class__ = _calling(kind, Rounds(compiled, eager, settle))


def _calling(kind: type, called: Callable[..., Any]) -> type:
    """The class `kind` with another call; a copy is a plain `kind`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return called(*args, **kwargs)

    def copied(self: Any) -> Any:
        plain: Any = object.__new__(kind)
        plain.__dict__.update(self.__dict__)
        return copy.copy(plain)

    own = {
        "__call__": call, "__copy__": copied, "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }  # fmt: skip
    return type(kind.__name__, (kind,), own)
