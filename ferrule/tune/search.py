"""Evolutionary search over a finite space of points, by batches.

    search = Search(points)                 points[0] is the default, the others in order of promise
    while batch := search.ask(6):
        for point in batch: search.tell(point, its time over the default's)
    search.best                             (point, time over the default's)

A point is a tuple of numbers. The first batch is what stands first in the order, with a few from
anywhere. A later one is bred from the fastest points measured: one number of a parent moves to a
neighbouring value, or each number comes from one of two parents. What the space does not have, or
was asked before, is bred again; when nothing new comes, the order goes on.

With a `Guide` (see model), most of a batch are those of many children and strangers that its
predictions put first; the others come as without it, so that a model that is wrong costs time and
no more. Where it predicts nothing, the whole batch does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import inf

from ferrule.tune.model import Guide, Point

PARENTS = 6
CROSSED = 0.3  # of the children have two parents
WILD = 0.15  # of a batch come from anywhere
TRIES = 40  # to breed one child that is new
GUIDED = 0.7  # of a batch are the model's choice, if there is one
CHILDREN, STRANGERS = 24, 8  # that the model chooses one of


class Search:
    """What was asked and told so far. The same `seed` asks the same for the same answers."""

    def __init__(self, points: Sequence[Point], seed: int = 0, guide: Guide | None = None) -> None:
        self._guide = guide
        self._points = list(dict.fromkeys(points))
        self._known = frozenset(self._points)
        self._times: dict[Point, float] = {self._points[0]: 1.0}
        self._asked = {self._points[0]}
        self._next = 1
        self._random = random.Random(seed)
        places = range(len(self._points[0]))
        self._values = [sorted({p[i] for p in self._points}) for i in places]

    @property
    def best(self) -> tuple[Point, float]:
        """The fastest point told of, and its time over the default's."""
        point = min(self._times, key=self._times.__getitem__)
        return point, self._times[point]

    @property
    def left(self) -> int:
        """How many points were not asked yet."""
        return len(self._points) - len(self._asked)

    def ask(self, count: int) -> list[Point]:
        """Up to `count` points to measure, none twice; none when all were asked."""
        first = len(self._asked) == 1
        count = min(count, self.left)
        batch = self._promising(round(GUIDED * count))
        self._asked.update(batch)
        while len(batch) < count:
            wild = self._random.random() < WILD
            point = self._any() if wild else None if first else self._bred()
            point = point or self._in_order()
            self._asked.add(point)
            batch.append(point)
        return batch

    def tell(self, point: Point, time: float) -> None:
        """The point's time over the default's; inf if it cannot be used. The last word counts."""
        self._times[point] = time
        if self._guide is not None:
            self._guide.learn(point, time)

    def _promising(self, count: int) -> list[Point]:
        """Up to `count` points by the guide's predictions; none without any."""
        if self._guide is None or not count or not self._guide.ready:
            return []
        left = [p for p in self._points if p not in self._asked]
        strangers = self._random.sample(left, min(len(left), STRANGERS * count))
        bred = [self._bred() for _ in range(CHILDREN * count)]
        pool = list(dict.fromkeys(p for p in (*bred, *strangers) if p is not None))
        predicted = dict(zip(pool, self._guide.predict(pool)))
        return sorted(predicted, key=predicted.__getitem__)[:count]

    def _in_order(self) -> Point:
        while self._points[self._next] in self._asked:
            self._next += 1
        return self._points[self._next]

    def _any(self) -> Point:
        """A point not asked yet, from anywhere."""
        return self._random.choice([p for p in self._points if p not in self._asked])

    def _bred(self) -> Point | None:
        """A child of the fastest points that was not asked yet, if one is found."""
        usable = [p for p, time in self._times.items() if time < inf]
        parents = sorted(usable, key=self._times.__getitem__)[:PARENTS]
        for _ in range(TRIES):
            child = self._child(parents)
            if child in self._known and child not in self._asked:
                return child
        return None

    def _child(self, parents: Sequence[Point]) -> Point:
        rank = min(int(self._random.expovariate(0.6)), len(parents) - 1)
        child = list(parents[rank])
        if len(parents) > 1 and self._random.random() < CROSSED:
            other = self._random.choice(parents)
            child = [self._random.choice(pair) for pair in zip(child, other)]
        for _ in range(self._random.choice((1, 1, 2))):
            i = self._random.randrange(len(child))
            child[i] = self._neighbour(i, child[i])
        return tuple(child)

    def _neighbour(self, i: int, value: int) -> int:
        """A value of number `i` up to two places from `value`."""
        values = self._values[i]
        at = min(range(len(values)), key=lambda j: abs(values[j] - value))
        step = self._random.choice((-2, -1, -1, 1, 1, 2))
        return values[max(0, min(len(values) - 1, at + step))]
