"""StridedSlice: what its bounds and masks say about each dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context, Known


@dataclass(frozen=True)
class Entry:
    """A dimension: "new" one of size 1, "at" the place `begin`, or a "slice", whose bounds are None
    where they are left open. `place` says where `begin` and `end` stand among the bounds.
    """

    kind: str
    begin: Any = None
    end: Any = None
    step: int = 1
    place: int = -1


def entries(cx: Context, rank: int, begin: Known, end: Known, steps: Known) -> list[Entry]:
    """What a StridedSlice does to a tensor of `rank`, from left to right. Raises UnsupportedError.
    """
    mask = {
        n: cx.attr(f"{n}_mask", 0)
        for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    count = len(begin)
    taken = sum(1 for i in range(count) if not (mask["new_axis"] | mask["ellipsis"]) >> i & 1)
    out: list[Entry] = []
    for i in range(count):
        bit = 1 << i
        if mask["ellipsis"] & bit:
            after = sum(1 for k in range(i + 1, count) if not mask["new_axis"] >> k & 1)
            before = sum(1 for e in out if e.kind != "new")
            out += [Entry("slice")] * (rank - before - after)
        elif mask["new_axis"] & bit:
            out.append(Entry("new"))
        elif mask["shrink_axis"] & bit:
            out.append(Entry("at", begin[i], place=i))
        else:
            step = steps[i]
            if not isinstance(step, int) or not step:
                raise UnsupportedError("a slice whose step is no constant")
            low = None if mask["begin"] & bit else _bound(begin[i])
            high = None if mask["end"] & bit else _bound(end[i])
            out.append(Entry("slice", low, high, step, i))
    if taken > rank:
        raise UnsupportedError(f"a slice of {taken} dimensions of a tensor that has {rank}")
    kept = sum(1 for e in out if e.kind != "new")
    return [*out, *[Entry("slice")] * (rank - kept)]


class Unknown:
    """A bound that only a run can tell."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()


def _bound(n: Any) -> Any:
    return UNKNOWN if n is None else n
