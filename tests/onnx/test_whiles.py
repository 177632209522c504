"""Loop and If that data decide: whiles and cases of the program, with nothing left to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from ferrule.api.session import InferenceSession
from tests.onnx.tools import body, model, node, programs, random

onnxruntime = pytest.importorskip("onnxruntime")

F, I, B = np.float32, np.int64, np.bool_
TRUE, FALSE = np.array(True), np.array(False)
ON = node("Identity", "go", "on")


def judged(proto: ModelProto, rtol: float = 1e-5, **feed: Any) -> InferenceSession:
    """The session, after its outputs were compared with ONNX Runtime's: ONNX's own evaluator runs
    no Loop without a condition.
    """
    session = InferenceSession(proto)
    theirs = onnxruntime.InferenceSession(proto.SerializeToString())
    held = {n: np.asarray(x) for n, x in feed.items()}
    for x, y in zip(session.run(None, feed), theirs.run(None, held), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)
    return session


def whole(proto: ModelProto, *feeds: dict[str, Any], rtol: float = 1e-5) -> None:
    """Check each feed, and that one program has run it."""
    for feed in feeds:
        s = judged(proto, rtol, **feed)
        assert s.in_numpy == ()
        assert programs(s) == 1


def loop(
    nodes: list[Any], states: dict[str, Any], after: dict[str, Any], shape: Any = (), **held: Any
) -> Any:
    """A body (i, go, states) -> (on, after)."""
    return body(nodes, {"i": (I, shape), "go": (B, shape), **states},
                {"on": (B, None), **after}, held)


def branches(then: list[Any], otherwise: list[Any], *results: str) -> dict[str, Any]:
    out = dict.fromkeys(results or ("r",), (F, None))
    return {"then_branch": body(then, {}, out), "else_branch": body(otherwise, {}, out)}


@pytest.mark.parametrize("shape", [[], [1]])
@pytest.mark.parametrize("count", ["n", "_"])
def test_a_loop_stops_by_data_and_by_count(count: str, shape: list[int]) -> None:
    nodes = [node("Mul", "v two", "t"), node("Add", "t w", "u"),
             node("ReduceMax", "u", "top", keepdims=0),
             node("Less", "top limit", "on")]  # fmt: skip
    t = (F, ["N"])
    inner = loop(nodes, {"v": t}, {"u": t}, shape, limit=F(100), two=F(2))
    given = {"x": t, "w": t, "c": (B, shape)} | ({"n": (I, shape)} if count == "n" else {})
    proto = model([node("Loop", f"{count} c x", "y", body=inner)], given, ["y"])
    feed = {"x": np.array([1, 2], F), "w": np.array([1, 0], F)}
    for n in (-1, 0, 1, 3, 50) if count == "n" else (0,):
        limit = {"n": np.full(shape, n)} if count == "n" else {}
        for c in (True, False):
            whole(proto, {**feed, **limit, "c": np.full(shape, c)})


def test_sizes_and_weights_of_whiles() -> None:
    """States of several dtypes, one of them kept, weights from outside and from the body."""
    nodes = [
        node("MatMul", "v big", "m"), node("MatMul", "m own", "o"), node("Tanh", "o", "w"),
        node("Cast", "i", "j", to=6), node("Add", "k j", "l"), node("Not", "p", "q"),
        node("Identity", "s", "s2"), node("ReduceSum", "w", "total", keepdims=0),
        node("Greater", "total least", "on"),
    ]  # fmt: skip
    v, k, p = (F, ["B", 20]), (np.int32, []), (B, [3])
    own = random(20, 20, seed=2) / 4
    inner = loop(nodes, {"v": v, "k": k, "p": p, "s": v}, {"w": v, "l": k, "q": p, "s2": v},
                 own=own)  # fmt: skip
    proto = model(
        [node("Loop", "n _ x k0 p0 x", "a k1 p1 d", body=inner),
         node("Cast", "k1", "b", to=1), node("Cast", "p1", "c", to=1)],
        {"x": v, "n": (I, []), "k0": k, "p0": p}, ["a", "b", "c", "d"],
        {"big": random(20, 20) / 4, "least": F(-1000)},
    )  # fmt: skip
    s = InferenceSession(proto)
    for size, n in ((1, 3), (4, 0), (2, 6)):
        x, p0 = random(size, 20, seed=1), np.array([True, False, True])
        feed = {"x": x, "n": I(n), "k0": np.int32(4), "p0": p0}
        whole(proto, feed, rtol=1e-4)
        _, b, c, d = s.run(None, feed)
        assert b == 4 + sum(range(n))
        np.testing.assert_array_equal(c != 0, p0 if n % 2 == 0 else ~p0)
        np.testing.assert_array_equal(d, x)
    assert programs(s) == 1


def test_a_condition_that_is_false_behind_the_first_step() -> None:
    inner = loop([node("Neg", "v", "w")], {"v": (F, [2])}, {"w": (F, [2])}, on=FALSE)
    proto = model([node("Loop", "n c x", "y", body=inner)],
                  {"x": (F, [2]), "n": (I, []), "c": (B, [])}, ["y"])  # fmt: skip
    for n in (0, 1, 5):
        for c in (TRUE, FALSE):
            whole(proto, {"x": random(2), "n": I(n), "c": c})


def test_rows_whose_number_data_decide_are_the_hosts() -> None:
    """Unless nobody asks for them."""
    nodes = [node("Add", "v v", "w"), node("Exp", "v", "row"), ON]
    inner = loop(nodes, {"v": (F, [2])}, {"w": (F, [2]), "row": (F, [2])})
    given = {"x": (F, [2]), "n": (I, [])}
    proto = model([node("Loop", "n _ x", "y rows", body=inner)], given, ["y", "rows"])
    for n in (0, 3):
        assert judged(proto, x=random(2), n=I(n)).in_numpy == ("Loop",)
    proto = model([node("Loop", "n _ x", "y _", body=inner)], given, ["y"])
    s = InferenceSession(proto)
    np.testing.assert_array_equal(s.run(None, {"x": random(2), "n": I(3)})[0], 8 * random(2))
    assert s.in_numpy == ()


def test_a_branch_on_data() -> None:
    """Branches read inputs and weights, give several results, constants, and what is outside."""
    then = [node("MatMul", "x weights", "r"), node("Identity", "one", "s"),
            node("ReduceMax", "x", "t", keepdims=0)]  # fmt: skip
    otherwise = [node("Identity", "x", "r"), node("Identity", "two", "s"),
                 node("ReduceMin", "x", "t", keepdims=0)]  # fmt: skip
    nodes = [
        node("ReduceSum", "x", "total", keepdims=0), node("Greater", "total one", "c"),
        node("If", "c", "r s t", **branches(then, otherwise, "r", "s", "t")),
        node("Add", "r s", "y"),
    ]  # fmt: skip
    proto = model(nodes, {"x": (F, ["B", 20])}, ["y", "t", "s"],
                  {"one": F(1), "two": F(2), "weights": random(20, 20)})  # fmt: skip
    s = InferenceSession(proto)
    for size in (1, 3):
        for x in (np.abs(random(size, 20)), -np.abs(random(size, 20))):
            whole(proto, {"x": x}, rtol=1e-4)
            s.run(None, {"x": x})
    assert programs(s) == 1


def test_branches_of_other_shapes_are_the_hosts() -> None:
    then, otherwise = [node("Concat", "x x", "r", axis=0)], [node("Neg", "x", "r")]
    nodes = [node("If", "c", "r", **branches(then, otherwise)), node("Exp", "r", "y")]
    proto = model(nodes, {"x": (F, [3]), "c": (B, [])}, ["y"])
    s = InferenceSession(proto)
    for c in (TRUE, FALSE):
        judged(proto, x=random(3), c=c)
        (y,) = s.run(None, {"x": random(3), "c": c})
        assert y.shape == ((6,) if c else (3,))


def test_a_branch_that_is_not_taken_asks_nothing_of_data_and_sizes() -> None:
    then = [node("Gather", "x far", "g"), node("Reshape", "x pairs", "h"),
            node("ReduceMax", "h", "m", keepdims=0), node("Add", "g m", "r")]  # fmt: skip
    otherwise = [node("ReduceMax", "x", "r", keepdims=0)]
    proto = model([node("If", "c", "y", **branches(then, otherwise))],
                  {"x": (F, ["N"]), "c": (B, []), "far": (I, [])}, ["y"],
                  {"pairs": np.array([-1, 2])})  # fmt: skip
    s = InferenceSession(proto)
    for n, c, far in ((4, True, 3), (4, False, 9), (5, False, 9), (2, True, 0)):
        x = random(n)
        (y,) = s.run(None, {"x": x, "c": np.array(c), "far": I(far)})
        np.testing.assert_allclose(y, x[far] + x.max() if c else x.max())


def test_a_while_in_a_branch_in_a_while() -> None:
    v, t = {"v": (F, ["N"])}, (F, ["N"])
    inner = loop([node("Mul", "a half", "b"), node("ReduceMax", "b", "top2", keepdims=0),
                  node("Greater", "top2 one", "on")], {"a": t}, {"b": t})  # fmt: skip
    then = [node("Loop", "_ _ v", "r", body=inner)]
    otherwise = [node("Mul", "v three", "m"), node("Add", "m x", "r")]
    nodes = [
        node("ReduceMax", "v", "high", keepdims=0), node("Greater", "high ten", "c"),
        node("If", "c", "u", **branches(then, otherwise)), node("Add", "u k", "z"),
        node("ReduceSum", "z", "sum", keepdims=0), node("Less", "sum limit", "on"),
    ]  # fmt: skip
    outer = loop(nodes, v, {"z": t})
    held = {"half": F(0.5), "one": F(1), "ten": F(10), "three": F(3), "limit": F(1000)}
    proto = model([node("Loop", "n _ x", "y", body=outer)],
                  {"x": t, "k": (F, [1]), "n": (I, [])}, ["y"], held)  # fmt: skip
    s = InferenceSession(proto)
    for size, n in ((2, 0), (3, 1), (5, 20)):
        feed = {"x": np.abs(random(size)), "k": np.ones(1, F), "n": I(n)}
        whole(proto, feed)
        s.run(None, feed)
    assert programs(s) == 1
