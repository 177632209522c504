"""One case against the framework: run eager, compile both ways, run, compare.

    check(case)  ->  Result

`torch.compile(backend="ferrule")` has to give what eager gives, on every call; where that is not
what `backend="eager"` gives, what that gives. So has `ferrule.compile`, where `torch.export` takes
the program.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

import ferrule
from ferrule.base import log
from ferrule.base.errors import FerruleError
from ferrule.runtime.counters import counters
from tools.zoo.case import NOTHING, RIGHT, WRONG, Call, Case, Program, Result

SEED = 20
EXCESS = 4
"""How many times eager's own rounding error is allowed where the tolerance is exceeded."""


SMALLEST = 1e-2
"""Errors are relative to no less: sigmoids of ONNX Runtime are off by 1e-7 even next to 0."""


class Different(Exception):
    """A result that is not the reference's; the message says how."""


@dataclass
class _Seen:
    """What has been found out so far about a case."""

    fallbacks: dict[str, str] = field(default_factory=dict)
    compared: int = 0
    exported: int = 0
    uncaptured: str = ""
    kernels: int = 0
    seconds: float = 0.0


def check(case: Case) -> Result:
    """All programs of a case; those that eager refuses are no reference."""
    seen, error = _Seen(), ""
    with torch.no_grad(), warnings.catch_warnings(), _watched(seen):
        warnings.simplefilter("ignore")
        programs = enumerate(case.programs())
        while True:
            try:
                number, program = next(programs, (0, None))
                if program is None:
                    break
                expected = [_called(program.run, call) for call in program.calls]
            except Exception as refusal:
                error = error or f"eager: {type(refusal).__name__}: {short(refusal)}"
                continue
            try:
                _check_program(program, expected, seen)
            except Exception as failure:
                error = f"program {number}: {type(failure).__name__}: {short(failure)}"
                return _result(case, WRONG, error, seen)
    if seen.compared:
        return _result(case, RIGHT, "", seen)
    return _result(case, NOTHING, error or f"capture: {seen.uncaptured}", seen)


def _result(case: Case, status: str, error: str, seen: _Seen) -> Result:
    return Result(
        case.name, case.group, status, error, dict(sorted(seen.fallbacks.items())),
        seen.compared, seen.exported, seen.uncaptured, seen.kernels, round(seen.seconds, 2),
    )  # fmt: skip


@contextmanager
def _watched(seen: _Seen) -> Iterator[None]:
    """A context in which warnings of what runs in PyTorch are noted."""

    def warn(message: str, once: bool = True) -> None:
        name, between, why = message.partition(" runs in PyTorch: ")
        if between:
            seen.fallbacks[name] = short(why)

    with mock.patch.object(log, "warn", warn):
        yield


# ---- running -------------------------------------------------------------------------------------


def _check_program(program: Program, expected: list[Any], seen: _Seen) -> None:
    torch._dynamo.reset()
    before = counters()
    for name, make in (program.ways or {"torch.compile": lambda: _backend(program.run)}).items():
        try:
            _compare_all(name, make(), program, expected)
        except Different:
            if program.ways:
                raise
            captured = _by_dynamo(program)
            if isinstance(captured, str):
                seen.uncaptured = captured
                return
            torch._dynamo.reset()
            _compare_all(name, make(), program, captured)
            seen.uncaptured = 'torch.compile(backend="eager") gives other results than eager'
    after = counters()
    seen.compared += 1
    seen.kernels += after["kernels"] - before["kernels"]
    seen.seconds += after["compile_seconds"] - before["compile_seconds"]
    if isinstance(program.run, torch.nn.Module):
        _check_exported(program, expected, seen)


def _backend(run: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(run, backend="ferrule")


def _by_dynamo(program: Program) -> list[Any] | str:
    """What PyTorch's capture without a compiler gives for each call, or why it gives nothing."""
    torch._dynamo.reset()
    try:
        run = torch.compile(program.run, backend="eager")
        return [_called(run, call) for call in program.calls]
    except Exception as error:
        return f"{type(error).__name__}: {short(error)}"


def _check_exported(program: Program, expected: list[Any], seen: _Seen) -> None:
    mine = _copied(program.calls[0])
    shapes = {"dynamic_shapes": program.dynamic_shapes}
    try:
        compiled = ferrule.compile(program.run, mine.args, example_kwargs=mine.kwargs, **shapes)
    except FerruleError:
        raise
    except Exception as refusal:
        if not _refused_by_export(refusal):
            raise
        seen.uncaptured = f"{type(refusal).__name__}: {short(refusal)}"
        return
    try:
        _compare_all("ferrule.compile", compiled, program, expected)
    except Different:
        mine = _copied(program.calls[0])
        exported = torch.export.export(program.run, mine.args, mine.kwargs, **shapes).module()
        captured = [_called(exported, call) for call in program.calls]
        _compare_all("ferrule.compile", compiled, program, captured)
        seen.uncaptured = "torch.export gives other results than eager"
    seen.exported += 1


def _refused_by_export(error: Exception) -> bool:
    """Whether an exception comes from within torch.export."""
    trace, files = error.__traceback__, []
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    ours = [i for i, name in enumerate(files) if "/ferrule/" in name]
    return any("/torch/export/" in name for name in files[ours[-1] :]) if ours else True


def _called(run: Callable[..., Any], call: Call) -> Any:
    mine = _copied(call)
    torch.manual_seed(SEED)
    out = run(*mine.args, **mine.kwargs)
    left = [t for t in tree_leaves((mine.args, mine.kwargs)) if isinstance(t, torch.Tensor)]
    return tree_map(_detached, out), left


def _detached(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


def _copied(call: Call) -> Call:
    def one(x: Any) -> Any:
        return x.detach().clone() if isinstance(x, torch.Tensor) else copy.copy(x)

    return Call(tree_map(one, call.args), tree_map(one, dict(call.kwargs)))


# ---- comparing -----------------------------------------------------------------------------------


def _compare_all(how: str, run: Callable[..., Any], program: Program, expected: list[Any]) -> None:
    """Every call of a compiled program; raises Different."""
    for i, (call, wanted) in enumerate(zip(program.calls, expected, strict=True)):
        try:
            precise = partial(_precise, program, call)
            compare(_called(run, call), wanted, precise, program.tolerance)
        except Exception as failure:
            raise Different(f"{how}, call {i}: {type(failure).__name__}: {failure}") from failure


def compare(actual: Any, expected: Any, precise: Callable[[], Any], tolerance: float) -> None:
    """Raise Different unless the results agree; `precise()` gives them in f64, or None."""
    ours, theirs = tree_leaves(actual), tree_leaves(expected)
    if len(ours) != len(theirs):
        raise Different(f"{len(ours)} results where the reference has {len(theirs)}")
    for i, (a, e) in enumerate(zip(ours, theirs, strict=True)):
        if isinstance(e, torch.Tensor):
            _compare_tensors(i, a, e, precise, tolerance)
        elif isinstance(e, int | float | bool | str) and a != e and a == a:
            raise Different(f"result {i} is {a!r} where the reference gives {e!r}")


def _compare_tensors(
    i: int, a: Any, e: torch.Tensor, precise: Callable[[], Any], tolerance: float
) -> None:
    if not isinstance(a, torch.Tensor) or (a.dtype, a.shape) != (e.dtype, e.shape):
        got = (a.dtype, tuple(a.shape)) if isinstance(a, torch.Tensor) else type(a).__name__
        raise Different(f"result {i} is {got} where the reference is {e.dtype, tuple(e.shape)}")
    if not e.is_floating_point():
        if not torch.equal(a, e):
            raise Different(f"result {i}: {int((a != e).sum())} of {e.numel()} values differ")
        return
    error = _error(a, e)
    if error <= tolerance:
        return
    exact = precise()
    if exact is not None:
        x = tree_leaves(exact)[i]
        if error < 0.1 and _error(a, x) <= EXCESS * max(_error(e, x), 1e-6):
            return
    raise Different(f"result {i}, {tuple(e.shape)}, is off by {error:.1e} of its largest value")


def _error(a: torch.Tensor, e: torch.Tensor) -> float:
    """The largest difference as a part of the largest finite value, inf where NaN or infinity
    differ.
    """
    if not e.numel():
        return 0.0
    ours, theirs = a.detach().double(), e.detach().double()
    finite = theirs.isfinite()
    if not torch.equal(ours[~finite].nan_to_num(7.0), theirs[~finite].nan_to_num(7.0)):
        return float("inf")
    ours, theirs = ours[finite], theirs[finite]
    if not theirs.numel():
        return 0.0
    scale = max(float(theirs.abs().max()), SMALLEST)
    error = float((ours - theirs).abs().max()) / scale
    return error if np.isfinite(error) else float("inf")


def _precise(program: Program, call: Call) -> Any:
    """The results of a call in f64, None where the program can't be run so."""

    def wide(x: Any) -> Any:
        return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    if not isinstance(program.run, torch.nn.Module):
        return None
    try:
        mine = _copied(call)
        return _called(copy.deepcopy(program.run).double(),
                       Call(tree_map(wide, mine.args), tree_map(wide, mine.kwargs)))  # fmt: skip
    except Exception:
        return None


def short(error: Any) -> str:
    """A message in one line, without what differs from run to run."""
    text = " ".join(str(error).split())
    return re.sub(r"0x[0-9a-f]+", "0x", text)[:400]
