"""A learned cost model: boosted regression trees on what was measured so far, which tell the search
what is worth measuring next.

    history = History()                            one for a run: operators learn from each other
    guide = Guide(history, "an operator", features)
    guide.learn(point, time)                       a time over the default's; inf if it fails
    if guide.ready: guide.predict(points)          the logarithms of other points' times

The model of a machine that orders the space is blind to what it does not describe: ports, prefetch,
associativity. Trees trained on measurements see that, as AutoTVM does (Chen et al., "Learning to
Optimize Tensor Programs", 2018). Their target is the logarithm of the time over the default's, so
operators of all sizes share one model; `features` are numbers that mean the same for all of them,
such as ratios of a block to a cache. The trees are those of scikit-learn (the extra
`ferrule[tune]`); without it, and before enough was measured, there are no predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import log2
from typing import Any

Point = tuple[int, ...]
Row = tuple[float, ...]

ENOUGH, OWN = 12, 6
"""Measurements before a prediction: in all, and of the operator itself."""
OTHERS = 200  # newest measurements of other operators that are learned from; fitting takes time
SLOWEST = 4.0  # times the default's: how much slower makes no difference beyond


@dataclass
class History:
    """What was measured of all operators of a run: (operator, point) to features and time."""

    rows: dict[tuple[str, Point], tuple[Row, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Guide:
    """The model as the search of one operator asks it."""

    history: History
    operator: str
    features: Callable[[Point], Row]

    def learn(self, point: Point, time: float) -> None:
        """Takes note of a point's time over the default's. The last word counts."""
        self.history.rows[self.operator, point] = self.features(point), time

    @property
    def ready(self) -> bool:
        """Whether there is a library, and enough to learn from."""
        rows = self.history.rows
        own = sum(operator == self.operator for operator, _ in rows)
        return len(rows) >= ENOUGH and own >= OWN and available()

    def predict(self, points: Sequence[Point]) -> list[float]:
        """The logarithms of the points' times over the default's, if this is `ready`."""
        rows = self.history.rows.items()
        own = [value for (operator, _), value in rows if operator == self.operator]
        others = [value for (operator, _), value in rows if operator != self.operator]
        known = own + others[-OTHERS:]
        trees = _fitted([row for row, _ in known], [time for _, time in known])
        return [float(x) for x in trees.predict([self.features(p) for p in points])]


@cache
def available() -> bool:
    """Whether scikit-learn is installed."""
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError:
        return False
    return True


def _fitted(rows: Sequence[Row], times: Sequence[float]) -> Any:
    """Trees of these features and times, the same ones for the same numbers. They are built in this
    thread alone: other threads would go on spinning while schedules are measured.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    trees = GradientBoostingRegressor(
        n_estimators=80, learning_rate=0.12, max_depth=4, min_samples_leaf=2, subsample=0.8,
        max_features=0.5, random_state=0,
    )  # fmt: skip
    return trees.fit(rows, [log2(min(time, SLOWEST)) for time in times])
