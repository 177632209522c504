"""PyTorch's own databases: its modules, its higher-order operators, its examples of export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from tools.zoo.case import Call, Case, Program

SEED = 11
SAMPLES = 3
"""Of each module at most so many, evenly spread over those that the database has."""


def modules() -> list[Case]:
    """`torch.nn` modules in evaluation mode, f32."""
    from torch.testing._internal.common_modules import module_db

    return [Case(i.name, "module", partial(_module, i)) for i in module_db]


def _module(info: Any) -> Iterator[Program]:
    torch.manual_seed(SEED)
    found = info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=False
    )
    for sample in _spread([s for s in found if s.forward_input is not None]):
        made, given = sample.constructor_input, sample.forward_input
        module = info.module_cls(*made.args, **made.kwargs).eval()
        with torch.no_grad():  # lazy modules get their parameters
            module(*given.args, **given.kwargs)
        yield Program(module, (Call(tuple(given.args), dict(given.kwargs)),))


def _spread(found: Sequence[Any]) -> list[Any]:
    step = max(1.0, len(found) / SAMPLES)
    return [found[i] for i in sorted({int(k * step) for k in range(int(len(found) / step))})]


def higher_order() -> list[Case]:
    """Operators that take functions: `cond`, `while_loop`, `scan`, .."""
    from torch.testing._internal.hop_db import hop_db

    return [Case(f"{o.name}.{o.variant_test_name}", "higher order", partial(_higher_order, o))
            for o in hop_db]  # fmt: skip


def _higher_order(op: Any) -> Iterator[Program]:
    torch.manual_seed(SEED)
    for sample in _spread(list(op.sample_inputs("cpu", torch.float32))):
        yield Program(_function(op.op), (Call((sample.input, *sample.args), sample.kwargs),))


def _function(op: Callable[..., Any]) -> Callable[..., Any]:
    """A function of its own, which Dynamo can look into."""
    return lambda *args, **kwargs: op(*args, **kwargs)


def examples() -> list[Case]:
    """The examples of `torch._export.db`, those that export does not support among them."""
    from torch._export.db.examples import all_examples

    return [Case(n, "export", partial(_example, e)) for n, e in all_examples().items()]


def _example(example: Any) -> Iterator[Program]:
    call = Call(tuple(example.example_args), dict(example.example_kwargs))
    yield Program(example.model.eval(), (call,), dynamic_shapes=example.dynamic_shapes)
