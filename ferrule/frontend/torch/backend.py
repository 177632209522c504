"""The Dynamo backend: what `torch.compile(model, backend="ferrule")` calls with each graph it
captures.

A graph becomes functional ATen operators (`capture`), and those a plan of compiled segments
(`plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ferrule.base import config, log
from ferrule.base.compiler import Compiler
from ferrule.base.config import Settings
from ferrule.base.errors import InputError
from ferrule.frontend.torch.capture import capture
from ferrule.frontend.torch.plan import Plan

MODES = ("default",)


@dataclass(frozen=True)
class Traced:
    """A graph that was captured and can run in two ways: `eager` in PyTorch, and what `finish`
    compiles. `once` is empty, or says why a call must not run both.
    """

    name: str
    eager: Callable[..., Any]
    finish: Callable[[], Callable[..., Any]]
    once: str


def at_once(traced: Traced, settings: Settings) -> Callable[..., Any]:
    """The compiled function."""
    return traced.finish()


def make_backend(
    compiler: Callable[[Settings], Compiler],
    arrange: Callable[[Traced, Settings], Callable[..., Any]] = at_once,
) -> Callable[..., Any]:
    """The backend that compiles with what `compiler` makes of the settings, and tells it what runs
    in PyTorch. `arrange` makes the function that is called.
    """

    def backend(
        gm: Any,
        example_inputs: Sequence[Any],
        *,
        mode: str | None = None,
        options: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Any:
        check_options(mode, options, unknown)
        if _trains(gm, example_inputs):
            log.warn(
                "training runs in eager PyTorch: ferrule compiles inference; call the model under "
                "torch.no_grad() or torch.inference_mode() to compile it"
            )
            return gm.forward

        if any(isinstance(x, torch.Tensor) and x.is_neg() for x in example_inputs):
            return gm.forward  # the sign is a bit of the tensor, not of its memory

        captured = capture(gm, example_inputs)
        plan = Plan(captured.graph, captured.params)
        settings = config.settings(**(options or {}))

        def finish() -> Callable[..., Any]:
            with config.override(**(options or {})):
                plan.compile(compiler(settings))
            return captured.finish(plan.direct or plan)

        return arrange(Traced(_name(plan), gm.forward, finish, captured.once), settings)

    return backend


def _name(plan: Plan) -> str:
    """What a graph is called in messages: Dynamo numbers its graphs, and its results have names."""
    results = ", ".join(n.name for n in plan.results if isinstance(n, torch.fx.Node))
    return f"the graph that computes {results}" if results else "a graph without results"


def _trains(gm: Any, example_inputs: Sequence[Any]) -> bool:
    """Whether gradients may be asked of what the graph computes."""
    if not torch.is_grad_enabled():
        return False
    given = [*gm.parameters(), *example_inputs]
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in given)


def check_options(
    mode: str | None, options: Mapping[str, Any] | None, unknown: Mapping[str, Any]
) -> None:
    """Refuse by name what is not understood. Raises InputError."""
    if mode is not None and mode not in MODES:
        known = ", ".join(MODES)
        raise InputError(f"mode={mode!r} is not understood; ferrule knows {known}")
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} is not understood by the ferrule backend; "
            "it takes mode and options"
        )
    with config.override(**(options or {})):
        pass
