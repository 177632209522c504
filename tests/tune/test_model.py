"""The learned model: it knows when it knows nothing, and makes the search shorter where it does."""

from __future__ import annotations

from itertools import product
from math import ceil, inf, log2
from statistics import mean

import pytest

from ferrule.tune import model
from ferrule.tune.model import ENOUGH, OWN, Guide, History
from ferrule.tune.search import Point, Search

needs_trees = pytest.mark.skipif(not model.available(), reason="scikit-learn is not installed")

SPACE = [
    (r, v, d, b, p)
    for r, v, d, b, p in product(
        range(1, 15), range(1, 7), (64, 128, 256, 512), (1, 32, 64, 128, 256), (1, 2, 4, 8)
    )
    if r * v <= 30
]


def cost(point: Point, m: int, n: int) -> float:
    """A machine: edges, loads a multiply-add, spills, panels beyond L1, blocks beyond L2."""
    r, v, d, b, p = point
    edges = ceil(m / r) * r / m * (ceil(n / (8 * v)) * 8 * v / n)
    loads = max(1.0, 1.7 * (r + v) / (r * v), 10 / (r * v))
    spills = 0.3 * (r * v + v + 1 > 31)
    panels = 0.4 * max(0.0, d * v / 1024 - 1)
    blocks = 0.2 * max(0.0, log2(b * d / (64 << 10))) + 0.2 * max(0.0, 1 - b / 64)
    return edges * loads * (1 + spills + panels + blocks + 0.06 * abs(log2(p) - 2) + 64 / (r * d))


def features(point: Point, m: int, n: int) -> tuple[float, ...]:
    r, v, d, b, p = point
    edges = ceil(m / r) * r / m, ceil(n / (8 * v)) * 8 * v / n
    return (r, v, r * v, log2(d), log2(b), log2(p), *edges, log2(d * v), log2(b * d))


def trials(seed: int, guided: bool, most: int = 240) -> int:
    """How many measurements it takes to come within 5 % of the best of all points."""
    m, n = 40 + 7 * seed, 100 + 30 * seed
    points = sorted(SPACE, key=lambda p: -p[0] * p[1])
    base, best = cost(points[0], m, n), min(cost(p, m, n) for p in points)
    guide = Guide(History(), "op", lambda p: features(p, m, n)) if guided else None
    search, count = Search(points, seed, guide), 0
    while search.best[1] * base > 1.05 * best and count < most:
        for p in search.ask(6):
            search.tell(p, cost(p, m, n) / base)
            count += 1
    return count


@needs_trees
@pytest.mark.slow
def test_a_guided_search_measures_less() -> None:
    guided, plain = ([trials(seed, g) for seed in range(10)] for g in (True, False))
    assert mean(guided) < 0.85 * mean(plain), (guided, plain)


@needs_trees
def test_the_same_measurements_give_the_same_predictions() -> None:
    def predicted() -> list[float]:
        guide = taught(40)
        return guide.predict(SPACE[100:120])

    assert predicted() == predicted()


def taught(count: int, operator: str = "op", history: History | None = None) -> Guide:
    guide = Guide(history or History(), operator, lambda p: features(p, 49, 200))
    for p in SPACE[:: len(SPACE) // count][:count]:
        guide.learn(p, cost(p, 49, 200))
    return guide


@needs_trees
def test_predictions_order_what_was_not_measured() -> None:
    guide = taught(200)
    rest = [p for p in SPACE[::7] if ("op", p) not in guide.history.rows]
    times = dict(zip(rest, guide.predict(rest)))
    truth = sorted(rest, key=lambda p: cost(p, 49, 200))
    assert mean(times[p] for p in truth[:50]) < mean(times[p] for p in truth[-50:]) - 0.5


@needs_trees
def test_operators_learn_from_each_other() -> None:
    history = History()
    taught(40, "other", history)
    assert not taught(OWN - 1, "op", history).ready
    assert taught(OWN, "op", history).ready


@needs_trees
def test_a_failure_is_slow() -> None:
    guide = taught(30)
    for p in SPACE[:60]:
        guide.learn(p, inf)
    assert all(x > 1 for x in guide.predict(SPACE[:20]))


def test_too_little_is_no_model() -> None:
    assert not taught(min(OWN, ENOUGH) - 1).ready


def test_without_the_library_the_search_is_the_plain_one(monkeypatch) -> None:
    monkeypatch.setattr(model, "available", lambda: False)
    assert not taught(100).ready
    assert [trials(seed, True, 60) for seed in range(3)] == [
        trials(seed, False, 60) for seed in range(3)
    ]


def asked(search: Search, time, batches: int) -> list[Point]:
    points = []
    for _ in range(batches):
        for p in search.ask(6):
            points.append(p)
            search.tell(p, time(p))
    return points


def guided_search(points: list[Point]) -> Search:
    return Search(points, 0, Guide(History(), "op", lambda p: features(p, 49, 200)))


def test_a_guided_search_asks_nothing_twice_and_all_in_the_end() -> None:
    few = SPACE[:100]
    points = asked(guided_search(few), lambda p: cost(p, 49, 200), 40)
    assert len(points) == len(set(points)) == len(few) - 1


def test_the_default_is_never_lost() -> None:
    search = guided_search(SPACE)
    asked(search, lambda p: 1.2 + cost(p, 49, 200), 10)
    assert search.best == (SPACE[0], 1.0)
    asked(search, lambda p: inf, 3)
    assert search.best == (SPACE[0], 1.0)
