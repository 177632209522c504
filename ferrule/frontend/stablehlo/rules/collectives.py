"""What processes tell each other, where each is alone in its group: then a result is what is given.

Specification: StableHLO, "Collective ops" (openxla/stablehlo, docs/spec.md).
"""

from __future__ import annotations

from typing import Any

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.module import Constant
from ferrule.frontend.stablehlo.table import Context, rule


@rule(
    "stablehlo.all_gather", "stablehlo.all_reduce", "stablehlo.all_to_all",
    "stablehlo.collective_broadcast", "stablehlo.reduce_scatter",
)  # fmt: skip
def _in_groups(cx: Context, *xs: Any) -> Any:
    groups = cx.attr("replica_groups")
    alone = isinstance(groups, Constant) and groups.values.shape[1:] == (1,)
    if not alone or not groups.values.size:
        raise UnsupportedError("it joins several processes")
    return xs


@rule("stablehlo.collective_permute")
def _permuted(cx: Context, x: Any) -> Any:
    pairs = cx.attr("source_target_pairs")
    if not isinstance(pairs, Constant) or pairs.values.tolist() != [[0, 0]]:
        raise UnsupportedError("it joins several processes")
    return x
