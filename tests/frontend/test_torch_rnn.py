"""Recurrent layers of torch.nn: each operator whole, its steps a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

import ferrule
from tests.frontend.tools import compiled, fallbacks, graphs

LAYERS: dict[str, Callable[..., nn.Module]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
IN, SIZE, BATCH, STEPS = 5, 6, 2, 4


class Flat(nn.Module):
    """A module whose results are a list."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> list[Tensor]:
        return tree_leaves(self.module(x))


def check(got: Any, expected: Any, tolerance: float = 1e-6) -> None:
    for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def agree(module: nn.Module, *inputs: Any, tolerance: float = 1e-6) -> Any:
    """The module compiled, after one call that agreed with eager and had no fallbacks."""
    f = ferrule.compile(module, inputs)
    check(f(*inputs), module(*inputs), tolerance)
    assert not fallbacks()
    return f


def state(kind: str, layers: int = 1, batch: int = BATCH) -> Any:
    """A given initial state of a layer."""
    h, c = torch.randn(layers, batch, SIZE), torch.randn(layers, batch, SIZE)
    return (h, c) if kind == "lstm" else h


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", [
    {}, {"num_layers": 3}, {"bidirectional": True}, {"batch_first": True}, {"bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
], ids=str)  # fmt: skip
def test_layers_by_definition(kind: str, options: dict[str, Any]) -> None:
    module = LAYERS[kind](IN, SIZE, **options).eval()
    x = torch.randn(STEPS, BATCH, IN)
    found, seen, left = graphs(Flat(module), [x])
    check(found, tree_leaves(module(x)))
    assert not left
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    found_ops = [n.op for n in seen[0].nodes]
    assert found_ops.count("loop") == found_ops.count("dot_general") == count


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_compiled_layers(kind: str, bidirectional: bool) -> None:
    module = LAYERS[kind](IN, SIZE, 2, bidirectional=bidirectional, batch_first=True).eval()
    x = torch.randn(BATCH, STEPS, IN)
    agree(module, x)
    agree(module, x, state(kind, 4 if bidirectional else 2))


def test_relu_layers() -> None:
    agree(nn.RNN(IN, SIZE, nonlinearity="relu").eval(), torch.randn(STEPS, BATCH, IN))


@pytest.mark.parametrize("kind", LAYERS)
def test_one_step(kind: str) -> None:
    agree(LAYERS[kind](IN, SIZE, 2, bidirectional=True).eval(), torch.randn(1, BATCH, IN))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_sequence_without_a_batch(kind: str) -> None:
    agree(LAYERS[kind](IN, SIZE).eval(), torch.randn(STEPS, IN))


@pytest.mark.parametrize("bias", [False, True])
def test_projected_states(bias: bool) -> None:
    module = nn.LSTM(IN, SIZE, 2, bias=bias, bidirectional=True, proj_size=3).eval()
    agree(module, torch.randn(STEPS, BATCH, IN))


@pytest.mark.parametrize("kind", LAYERS)
def test_double_precision(kind: str) -> None:
    module = LAYERS[kind](IN, SIZE).eval().double()
    agree(module, torch.randn(STEPS, BATCH, IN).double(), tolerance=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    module = nn.LSTM(IN, SIZE, batch_first=True).eval().to(dtype)
    agree(module, torch.randn(BATCH, STEPS, IN).to(dtype), tolerance=1e-2)


def test_dropout_is_off_in_evaluation() -> None:
    agree(nn.LSTM(IN, SIZE, 2, dropout=0.5).eval(), torch.randn(STEPS, BATCH, IN))


def test_dropout_in_training_runs_in_pytorch() -> None:
    module, x = nn.LSTM(IN, SIZE, 2, dropout=0.5), torch.randn(STEPS, BATCH, IN)
    y, (h, _) = ferrule.compile(module, (x,))(x)
    assert y.shape == (STEPS, BATCH, SIZE)
    assert h.shape == (2, BATCH, SIZE)
    assert fallbacks() == {"aten.lstm.input"}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] if k == "gru" else []) for k in LAYERS]
)
def test_symbolic_batch_and_length(kind: str) -> None:
    module = LAYERS[kind](IN, SIZE, 2, bidirectional=True, batch_first=True).eval()
    x = torch.randn(BATCH, STEPS, IN)
    sizes = ({0: Dim("batch", max=64), 1: Dim("steps", max=64)},)
    f = ferrule.compile(module, (x,), dynamic_shapes=sizes)
    for batch, steps in ((2, 4), (3, 7), (5, 2), (2, 19)):
        x = torch.randn(batch, steps, IN)
        check(f(x), module(x))
    assert not fallbacks()


class Tagger(nn.Module):
    """A layer between others, whose weights can change."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(10, IN), nn.LSTM(IN, SIZE, batch_first=True)
        self.head = nn.Linear(SIZE, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0].relu()).softmax(-1)


def test_a_layer_between_others() -> None:
    module, x = Tagger().eval(), torch.randint(10, (BATCH, STEPS))
    f = agree(module, x)
    module.lstm.weight_hh_l0.mul_(-2)
    check(f(x), module(x))


class Last(nn.Module):
    """The last hidden state of a layer alone."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(IN, SIZE, 2, batch_first=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.lstm(x)[1][0][-1]]


def test_results_that_nobody_reads() -> None:
    """Neither the rows put back in order nor the cells of all layers side by side."""
    module, x = Last().eval(), torch.randn(BATCH, STEPS, IN)
    found, seen, left = graphs(module, [x])
    check(found, module(x))
    assert not left
    read = {v for n in seen[0].nodes for v in n.inputs} | set(seen[0].outputs)
    assert all(read & set(n.outputs) for n in seen[0].nodes)
    assert [n.op for n in seen[0].nodes].count("concat") == 1


def test_pytorch_is_left_as_it_was() -> None:
    op, table = torch.ops.aten.lstm.input, torch._decomp.decomposition_table
    before = dict(op.py_kernels), table[op]
    agree(nn.LSTM(IN, SIZE).eval(), torch.randn(STEPS, BATCH, IN))
    assert before == (dict(op.py_kernels), table[op])


def test_through_dynamo() -> None:
    """Dynamo captures recurrent layers where it is told to."""
    module, x = Tagger().eval(), torch.randint(10, (BATCH, STEPS))
    with torch._dynamo.config.patch(allow_rnn=True):
        check(compiled(module, fullgraph=True)(x), module(x))
    assert not fallbacks()
    assert ferrule.counters()["compilations"] + ferrule.counters()["cache_hits"] == 1


class Packed(nn.Module):
    """A layer over sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(IN, SIZE)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        rows = nn.utils.rnn.pack_padded_sequence(x, lengths)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(rows)[0])[0]


def test_packed_sequences_run_in_pytorch() -> None:
    module, x, lengths = Packed().eval(), torch.randn(STEPS, BATCH, IN), torch.tensor([4, 2])
    with torch._dynamo.config.patch(allow_rnn=True):
        check(compiled(module)(x, lengths), module(x, lengths))
