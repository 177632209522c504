"""One operator of PyTorch's own test database against eager: trace, compile, run, compare.

    check(op, sample)  ->  Result, for each sample of samples(op, torch.float32, limit=40)

A sample is traced by AOTAutograd into the backend's compile step, as Dynamo's graphs are; this is
an order of magnitude faster than Dynamo itself. What can't be traced so (a size that depends on
data, a result that is no tensor) goes through `torch.compile`, where the graph breaks.
"""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ferrule.base import config, log
from ferrule.frontend.torch.backend import make_backend
from ferrule.frontend.torch.capture import capture
from ferrule.frontend.torch.plan import Plan
from ferrule.pipeline.compile import native

SEED = 1234
UNDEFINED = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided",
                       "empty_permuted"})  # fmt: skip
TOLERANCES = {torch.float16: (4e-3, 4e-3), torch.bfloat16: (3e-2, 3e-2),
              torch.float32: (2e-5, 2e-5), torch.float64: (1e-9, 1e-9)}  # fmt: skip
EXCESS = 4  # how many times eager's own rounding error, where the tolerance is exceeded


@dataclass(frozen=True)
class Result:
    """What became of one sample: the error if any, and what PyTorch ran, with the reasons; or that
    eager itself raises.
    """

    error: str | None = None
    fallbacks: tuple[tuple[str, str], ...] = ()
    refused: bool = False


def unseeded() -> None:
    """Keep random operators of the database from seeding themselves, at tracing but not at run
    time.
    """
    from torch.testing._internal import common_methods_invocations as database

    database.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)


def samples(op: Any, dtype: torch.dtype, limit: int) -> Iterator[tuple[int, Any]]:
    """The operator's samples, numbered; at most `limit` of them, evenly spread (0: all)."""
    torch.manual_seed(SEED)
    found = list(op.sample_inputs("cpu", dtype))
    step = max(1.0, len(found) / limit) if limit else 1.0
    picked = sorted({int(i * step) for i in range(int(len(found) / step))})
    return ((i, found[i]) for i in picked)


def check(op: Any, sample: Any, dynamo: bool = False) -> Result:
    """One sample, through torch.compile if `dynamo`."""
    args = (sample.input, sample.args, sample.kwargs)
    fallbacks: dict[str, str] = {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected, after = _run(lambda xs: _apply(op, xs), args)
        except Exception:
            return Result(refused=True)
        try:
            actual, mutated = _compiled(op, args, fallbacks, dynamo)
            if not _random(op, args, expected):
                ours, theirs = (_chosen(op, args, out) for out in (actual, expected))
                _compare((ours, mutated), (theirs, after), lambda: _precise(op, args))
            else:
                _compare_types(actual, expected)
            error = None
        except Exception as failure:
            error = f"{type(failure).__name__}: {_short(failure)}"
    return Result(error, tuple(sorted(fallbacks.items())))


def _apply(op: Any, args: Any) -> Any:
    x, rest, named = args
    return op.op(x, *rest, **named)


def _run(f: Callable[[Any], Any], args: Any) -> tuple[Any, Any]:
    """The result of f on a copy of the arguments, and the copy as f left it."""
    mine = _copied(args)
    torch.manual_seed(SEED)
    return f(mine), [x for x in tree_flatten(mine)[0] if isinstance(x, torch.Tensor)]


def _copied(args: Any) -> Any:
    def one(x: Any) -> Any:
        return x.detach().clone() if isinstance(x, torch.Tensor) else copy.copy(x)

    return tree_map(one, args)


# ---- compiling -----------------------------------------------------------------------------------


class _Traced(torch.nn.Module):
    """An operator as a function of its tensors alone, giving a list of tensors."""

    def __init__(self, op: Any, args: Any):
        super().__init__()
        self.op = op
        self.leaves, self.spec = tree_flatten(args)
        self.places = [i for i, x in enumerate(self.leaves) if isinstance(x, torch.Tensor)]
        self.out_spec: Any = None

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.leaves)
        for i, t in zip(self.places, tensors, strict=True):
            leaves[i] = t
        out, self.out_spec = tree_flatten(_apply(self.op, tree_unflatten(leaves, self.spec)))
        if not all(isinstance(x, torch.Tensor) for x in out):
            raise TypeError("a result is no tensor")
        return out


def _compiled(op: Any, args: Any, fallbacks: dict[str, str], dynamo: bool) -> tuple[Any, Any]:
    def warn(message: str, once: bool = True) -> None:
        name, _, why = message.partition(" runs in PyTorch: ")
        fallbacks[name] = _short(why)

    mine = _copied(args)
    traced = _Traced(op, mine)
    tensors = [traced.leaves[i] for i in traced.places]
    with mock.patch.object(log, "warn", warn):
        run = None if dynamo or not _plain(tensors) else _aot(traced, tensors, fallbacks)
        torch.manual_seed(SEED)
        if run is not None:
            out = run(*tensors)
            return tree_unflatten(list(out), traced.out_spec), tensors
        torch._dynamo.reset()
        counted: list[int] = []
        whole = torch.compile(lambda xs: _apply(op, xs), backend=_counting(counted))
        out = whole(mine)
        if not counted:
            fallbacks["dynamo"] = "no graph could be captured"
    return out, tensors


def _plain(tensors: Sequence[torch.Tensor]) -> bool:
    return all(t.layout == torch.strided and type(t) is torch.Tensor for t in tensors)


def _counting(counted: list[int]) -> Callable[..., Any]:
    backend = make_backend(native)

    def counting(gm: Any, inputs: Sequence[Any]) -> Any:
        counted.append(1)
        return backend(gm, inputs)

    return counting


def _aot(traced: _Traced, tensors: list[torch.Tensor], fallbacks: dict[str, str]) -> Any:
    """The compiled sample, None where it can't be traced."""
    try:
        taken = capture(traced, tensors)
    except Exception as error:
        fallbacks["trace"] = f"{type(error).__name__}: {_short(error)}"
        return None
    return taken.finish(Plan(taken.graph, taken.params).compile(native(config.settings())))


# ---- comparing -----------------------------------------------------------------------------------


def _random(op: Any, args: Any, expected: Any) -> bool:
    """Whether another seed gives another result, or the result is undefined memory."""
    if op.name in UNDEFINED:
        return True
    torch.manual_seed(SEED + 1)
    again = _apply(op, _copied(args))
    try:
        _compare(again, expected, lambda: None)
    except AssertionError:
        return True
    return False


def _chosen(op: Any, args: Any, out: Any) -> Any:
    """Values and, instead of their indices, the elements there: of equal ones PyTorch chooses any.
    """
    x, rest, named = args
    if op.name not in ("topk", "kthvalue") or x.ndim == 0:
        return out
    dim = named.get("dim", rest[1] if len(rest) > 1 else -1)
    values, places = out
    return values, x.gather(dim, places if places.ndim == x.ndim else places.unsqueeze(dim))


def _compare_types(actual: Any, expected: Any) -> None:
    for a, e in zip(tree_flatten(actual)[0], tree_flatten(expected)[0], strict=True):
        if isinstance(e, torch.Tensor):
            ours, theirs = (a.dtype, a.shape), (e.dtype, e.shape)
            assert ours == theirs, f"{ours} where eager gives {theirs}"


def _compare(actual: Any, expected: Any, precise: Callable[[], Any]) -> None:
    ours, theirs = tree_flatten(actual)[0], tree_flatten(expected)[0]
    assert len(ours) == len(theirs), f"{len(ours)} results where eager gives {len(theirs)}"
    for i, (a, e) in enumerate(zip(ours, theirs, strict=True)):
        if not isinstance(e, torch.Tensor):
            assert a == e or a != a, f"{a} where eager gives {e}"
            continue
        rtol, atol = TOLERANCES.get(e.dtype, (0.0, 0.0))
        try:
            torch.testing.assert_close(a, e, rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError:
            if not _as_precise(a, e, precise, i):
                raise


def _as_precise(a: torch.Tensor, e: torch.Tensor, precise: Callable[[], Any], i: int) -> bool:
    """Whether a result is about as near to that in f64 as eager's."""
    if not e.is_floating_point() or a.shape != e.shape or a.dtype != e.dtype:
        return False
    exact = precise()
    if exact is None or not isinstance(exact[i], torch.Tensor) or exact[i].shape != e.shape:
        return False
    x = exact[i].double()
    ours, theirs = (a.double() - x).abs(), (e.double() - x).abs()
    undefined = x.isnan() | x.isinf() | e.isnan() | e.isinf()
    if not torch.equal(
        a.double()[undefined].nan_to_num(7.0), e.double()[undefined].nan_to_num(7.0)
    ):
        return False
    worst = max((theirs[~undefined].max().item() if (~undefined).any() else 0.0), 1e-7)
    return bool((ours[~undefined] <= EXCESS * worst).all())


def _precise(op: Any, args: Any) -> list[Any] | None:
    """The results in f64, then the arguments as they were left; None if it can't be run so."""

    def wide(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x.double() if x.is_floating_point() else x.clone()
        return torch.float64 if x in (torch.float32, torch.float16, torch.bfloat16) else x

    try:
        out, after = _run(lambda xs: _apply(op, xs), tree_map(wide, args))
    except Exception:
        return None
    return tree_flatten((out, after))[0]


def _short(error: Any) -> str:
    """A message in one line, without what differs from run to run."""
    text = " ".join(str(error).split())
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(re.escape(os.getcwd()) + "/?", "", text)
    return text[:300]
