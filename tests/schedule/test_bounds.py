"""Limits: how far guards let axes go, and attention whose rows end there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ferrule
from ferrule import nn
from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.ir.expr import Space, axis, const, le, load, lt
from ferrule.ir.monoids import SUM
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage
from ferrule.schedule.contraction.bounds import grows, implied, limited, limits
from tests.systems import buf

TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]
I, J = axis("i", 20), axis("j", 30)


def _rows(where) -> list[Stage]:
    """s[j] = x[i, j] * 2, and y[i] = the sum of s[j] where `where`."""
    x, y = buf("x", 20, 30), buf("y", 20)
    s = replace(buf("s", 30), space=Space.SCRATCH)
    double = Stage("s", (Access(s, (J,)),), Compute((J,), (load(x, I, J) * 2.0,)))
    total = Compute((), (load(s, J),), Reduce((J,), SUM(s.dtype)), where)
    return [double, Stage("y", (Access(y, (I,)),), total)]


def _limits(where):
    body = _rows(where)
    return limits(body, frozenset(body[0].writes), (I,))


def test_a_guard_ends_the_fold_and_what_only_it_reads():
    double, total = _limits(le(J, I))
    assert equal(total[J], I + 1)
    assert equal(double[J], I + 1)


def test_an_end_past_the_extent_is_the_extent():
    (_, total) = _limits(lt(J, I + 15))
    assert total[J] is simplify(total[J])
    assert total[J].op == "min"
    assert grows(total[J], (I,))


def test_guards_that_end_nothing():
    assert _limits(le(I, J)) == [{}, {}]  # a beginning
    assert _limits(lt(J * 2, I)) == [{}, {}]  # not in steps of one
    assert _limits(lt(J, I - 3)) == [{}, {}]  # may be negative
    assert _limits(None) == [{}, {}]


def test_what_another_stage_reads_whole_has_no_end():
    double, total = _rows(le(J, I))
    s = double.writes[0]
    whole = Stage(
        "z", ((buf("z", 20), (I,)),), Compute((), (load(s, J),), Reduce((J,), SUM(s.dtype)))
    )
    assert limits([double, total, whole], frozenset({s}), (I,)) == [{}, {J: I + 1}, {}]


def test_a_limited_stage_has_no_guard_left():
    _double, total = _rows(le(J, I))
    (_, own) = _limits(le(J, I))
    assert implied(le(J, I), own)
    assert not implied(le(J, I - 1), own)
    short = limited(total, own, {I: const(6)}, "h")
    assert short.compute.where is None
    assert short.compute.reduce_axes[0].extent is const(7)


def test_an_end_that_shrinks_along_an_axis():
    assert not grows(simplify(const(20) - I), (I,))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("rows", "keys"), [(1, 1), (37, 37), (64, 64), (7, 50), (50, 7)])
def test_causal_attention(target, rows, keys):
    rng = np.random.default_rng(0)
    q = rng.standard_normal((2, 3, rows, 16), np.float32)
    k, v = (rng.standard_normal((2, 3, keys, 16), np.float32) for _ in range(2))
    k[..., rows:, :] = v[..., rows:, :] = np.nan  # no row sees these
    with config.override(target=target):
        got = ferrule.jit(lambda q, k, v: nn.attention(q, k, v, causal=True))(q, k, v)
    scores = np.einsum("bhie,bhje->bhij", q.astype(np.float64), k) / 4
    scores = np.where(np.tril(np.ones((rows, keys), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    want = np.einsum("bhij,bhjf->bhif", weights, np.nan_to_num(v))
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5, atol=1e-6)
