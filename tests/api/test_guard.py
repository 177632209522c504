"""The rounds by which the faster of two functions is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import comb

import pytest

from ferrule.api import guard
from ferrule.api.guard import ALPHA, LOOKS, WARM, Rounds, Verdict, sign_test


class Clock:
    """Time that passes where a function says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0
        patch.setattr(guard.time, "perf_counter_ns", lambda: self.now)

    def taking(self, ns: Callable[[int], int], result: str) -> Callable[[], str]:
        """A function whose n-th call takes `ns(n)`."""
        calls = 0

        def fn() -> str:
            nonlocal calls
            self.now += ns(calls)
            calls += 1
            return result

        return fn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def rounds_of(
    clock: Clock, compiled: Callable[[int], int], eager: Callable[[int], int]
) -> tuple[list[str], Verdict | None]:
    """What the first calls gave, and the verdict."""
    said: list[Verdict] = []
    run = Rounds(clock.taking(compiled, "compiled"), clock.taking(eager, "eager"), said.append)
    given = [run() for _ in range(WARM + LOOKS[-1] + 2)]
    assert len(said) <= 1
    return given, said[0] if said else None


def test_the_sign_test_is_the_binomial_one() -> None:
    assert sign_test(8, 0) == sign_test(0, 8) == 2 / 256
    assert sign_test(4, 4) == 1.0
    assert sign_test(0, 0) == 1.0
    expected = 2 * sum(comb(32, k) for k in range(24, 33)) / 2**32
    assert sign_test(24, 8) == pytest.approx(expected)


def test_the_numbers_that_the_docstring_tells() -> None:
    alpha = ALPHA / len(LOOKS)
    least = [min(w for w in range(n // 2, n + 1) if sign_test(w, n - w) < alpha) for n in LOOKS]
    assert least == [8, 14, 24]


def test_what_is_slower_each_time_goes_at_the_first_look(clock: Clock) -> None:
    given, verdict = rounds_of(clock, lambda n: 2_000_000, lambda n: 1_000_000)
    assert verdict == Verdict(False, LOOKS[0], 2.0, 1.0)
    first = WARM + LOOKS[0]
    assert given == ["compiled"] * first + ["eager"] * (len(given) - first)


def test_what_is_faster_stays(clock: Clock) -> None:
    given, verdict = rounds_of(clock, lambda n: 1_000_000, lambda n: 2_000_000)
    assert verdict == Verdict(True, LOOKS[0], 1.0, 2.0)
    assert set(given) == {"compiled"}


def test_the_first_rounds_are_not_counted(clock: Clock) -> None:
    _, verdict = rounds_of(clock, lambda n: 10**9 if n < WARM else 1, lambda n: 2)
    assert verdict is not None
    assert verdict.compiled
    assert verdict.compiled_ms < 1


def test_a_few_slow_rounds_decide_nothing(clock: Clock) -> None:
    """A mean would see an outlier of a thousand times the median."""
    _, verdict = rounds_of(clock, lambda n: 10**9 if n == WARM + 4 else 1, lambda n: 2)
    assert verdict is not None
    assert verdict.compiled
    assert verdict.rounds == LOOKS[1]


@pytest.mark.parametrize("eager", [lambda n: 2, lambda n: 1 + 2 * (n % 2)])
def test_without_a_clear_winner_the_compiled_one_stays(
    clock: Clock, eager: Callable[[int], int]
) -> None:
    _, verdict = rounds_of(clock, lambda n: 2, eager)
    assert verdict is not None
    assert verdict.compiled
    assert verdict.rounds == LOOKS[-1]


def test_they_take_turns_in_going_first() -> None:
    order: list[str] = []
    run = Rounds(lambda: order.append("c"), lambda: order.append("e"), lambda v: None)
    for _ in range(4):
        run()
    assert "".join(order) == "ceecceec"


def test_other_threads_wait_for_no_round() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def eager() -> None:
        inside.set()
        assert go_on.wait(30)

    run = Rounds(lambda: "compiled", eager, lambda v: None)
    measuring = threading.Thread(target=run)
    measuring.start()
    assert inside.wait(30)
    assert run() == "compiled"  # while the other one is in its round
    go_on.set()
    measuring.join()


def test_many_threads_get_one_verdict(clock: Clock) -> None:
    said: list[Verdict] = []
    run = Rounds(lambda: 1, lambda: 1, said.append)

    def work() -> None:
        for _ in range(200):
            assert run() == 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(said) == 1


def test_where_eager_fails_the_compiled_one_stays() -> None:
    def eager(x: int) -> int:
        raise ValueError("no")

    said: list[Verdict] = []
    run = Rounds(lambda x: x + 1, eager, said.append)
    assert [run(n) for n in range(3)] == [1, 2, 3]
    assert [v.compiled for v in said] == [True]
    assert "no" in said[0].why


def test_what_the_compiled_one_raises_is_raised_and_no_round() -> None:
    def compiled(x: int) -> int:
        if x == 1:
            raise ValueError("one")
        return x

    said: list[Verdict] = []
    run = Rounds(compiled, lambda x: x, said.append)
    for x in [1] * (2 * LOOKS[-1] + 2 * WARM):
        with pytest.raises(ValueError, match="one"):
            run(x)
    assert not said
    assert run(2) == 2
