"""The search finds what is fast, asks nothing twice, and ends."""

from __future__ import annotations

from itertools import product
from math import inf

import pytest

from ferrule.tune.search import Search

SPACE = [p for p in product(range(8), range(8), (1, 2, 4, 8, 16)) if sum(p) < 26]


def cost(p: tuple[int, ...]) -> float:
    """One valley, at (5, 2, 8)."""
    return 0.5 + 0.02 * ((p[0] - 5) ** 2 + (p[1] - 2) ** 2) + 0.01 * abs(p[2] - 8)


def told(search: Search, batches: int) -> list[tuple[int, ...]]:
    asked = []
    for _ in range(batches):
        batch = search.ask(6)
        asked += batch
        for p in batch:
            search.tell(p, cost(p))
    return asked


@pytest.mark.parametrize("seed", range(6))
def test_the_valley_is_found_with_a_third_of_the_space(seed: int) -> None:
    search = Search([(0, 0, 1), *SPACE], seed)
    told(search, len(SPACE) // 18)
    assert search.best[1] <= 0.55


def test_nothing_is_asked_twice_and_all_in_the_end() -> None:
    search = Search(SPACE)
    asked = told(search, len(SPACE))
    assert len(asked) == len(set(asked)) == len(SPACE) - 1
    assert search.left == 0
    assert search.ask(6) == []
    assert search.best == ((5, 2, 8), 0.5)


def test_the_order_comes_first() -> None:
    first = Search(SPACE).ask(6)
    assert len(set(first) & set(SPACE[1:7])) >= 4


def test_the_same_answers_give_the_same_questions() -> None:
    assert told(Search(SPACE, 3), 9) == told(Search(SPACE, 3), 9)


def test_the_default_is_the_best_when_nothing_else_works() -> None:
    search = Search(SPACE)
    for p in search.ask(50):
        search.tell(p, inf)
    assert search.best == (SPACE[0], 1.0)
    assert search.ask(6)


def test_a_space_of_one_point_has_nothing_to_ask() -> None:
    assert Search([(1, 2)]).ask(4) == []


def test_a_later_word_counts() -> None:
    search = Search(SPACE)
    (p,) = search.ask(1)
    search.tell(p, 0.5)
    assert search.best == (p, 0.5)
    search.tell(p, 1.5)
    assert search.best == (SPACE[0], 1.0)
