"""What a peer of the contraction benchmark must show before it is timed.

The reference is the operator in float64. A peer's result is copied before it is compared, and has
memory of its own: a peer that hands back an input, or a buffer of another peer, is refused, as is
one of ferrule's whose operators run in PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import Model
from benchmarks.peers import Case, Ready, Unavailable


class ExactCase(Case):
    """A case whose reference is computed in float64, from float64 copies of weights and inputs."""

    def __init__(self, model: Model, seed: int, threads: int, folder: Path) -> None:
        super().__init__(model, seed, threads, folder)
        self.reference = exact(self.module, self.inputs)


class Checked:
    """The results of the peers of one case, each compared with the reference once it is there.

    They are held until the end, so that no peer's result can lie where another's did.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._held: dict[str, Tensor] = {f"input {i}": x for i, x in enumerate(case.inputs)}
        self._before = [x.clone() for x in case.inputs]

    def error(self, peer: str, ready: Ready) -> float:
        """The peer's largest error, relative to the reference's largest value; inf for NaN or
        another shape. Raises Unavailable for a result in somebody else's memory or of another
        dtype than f32, and for inputs that the peer has written to.
        """
        result = ready.result()
        for other, tensor in self._held.items():
            if tensor.untyped_storage().data_ptr() == result.untyped_storage().data_ptr():
                raise Unavailable(f"its result lies in the memory of {other}")
        if result.dtype != torch.float32:
            raise Unavailable(f"its result is {result.dtype}, not torch.float32")
        if not all(map(torch.equal, self._before, self._case.inputs)):
            raise Unavailable("it writes to its inputs")
        self._held[peer] = result
        return self._case.relative_error(result.clone())


def exact(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The module's result in float64, for weights and inputs of f32."""
    wide = copy.deepcopy(module).double()
    with torch.no_grad():
        return wide(*(x.double() for x in inputs)).clone()


def compiled_alone(package: Any, compile: Callable[[], Any]) -> Any:
    """What `compile` gives. Raises Unavailable where an operator of it runs in PyTorch, or no
    kernel of ferrule runs at all.
    """
    package.reset_counters()
    compiled = compile()
    found = package.counters()
    if found["fallbacks"]:
        raise Unavailable(f"in part not ferrule: PyTorch runs {', '.join(found['fallbacks'])}")
    if not found["compilations"] + found["cache_hits"] or not compiled.kernels:
        raise Unavailable("not ferrule: no kernel of its own was compiled")
    return compiled
