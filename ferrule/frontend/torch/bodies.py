"""What PyTorch's higher-order operators call.

`cond`, `while_loop`, `scan` and `map` are compiled with their bodies (`rules/control.py`). Where
one can't be, PyTorch runs it, and its bodies are compiled one by one. These operators call their
bodies as functions of tensors, one call at a time. Others trace them or
look into their graphs (`flex_attention`, `associative_scan`): their bodies stay as they are.
"""

from __future__ import annotations

from typing import Any

_CALLERS = frozenset({"cond", "while_loop", "while_loop_stack_output", "scan", "map_impl"})


def is_body(node: Any, value: Any) -> bool:
    """Whether a node gives such operators, and nothing else, a graph that can be compiled."""
    graph = getattr(value, "graph", None)
    return (
        graph is not None
        and all(str(user.target) in _CALLERS for user in node.users)
        and all("val" in n.meta for n in graph.nodes if n.op in ("placeholder", "call_function"))
    )


class Body:
    """A compiled body: takes its plan's arguments one by one, gives what its graph gives."""

    def __init__(self, plan: Any):
        self.plan = plan
        results = next(n for n in plan.graph.nodes if n.op == "output").args[0]
        self._single = not isinstance(results, tuple | list)

    def __call__(self, *args: Any) -> Any:
        out = self.plan(args)
        return out[0] if self._single else tuple(out)
