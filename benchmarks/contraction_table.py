"""The operators that the contraction benchmark measures, as a fixed table.

A row is one operator with its floating-point operations. It has a form for each memory layout in
which a peer may want its tensors; what counts is a peer's best form. Activations are inputs; a
layer's weights are parameters, which each peer may prepare beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models import Built, Group, Model
from benchmarks.networks import MobileNetV2, ResNet

SQUARES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
TOKENS = (1, 16, 128, 512)
LENGTHS = (64, 128, 256, 512, 1024, 2048)
HEADS, HEAD = 12, 64
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Contraction:
    """One row: `flops` operations of a call, `forms` by layout ("" is PyTorch's own order)."""

    name: str
    kind: str
    flops: int
    forms: tuple[tuple[str, Model], ...]


class Product(nn.Module):
    """x @ y, both inputs, by `mm` or `bmm`; `transposed` takes y's last two axes the other way."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        other = y.mT if self.transposed else y
        return torch.mm(x, other) if x.dim() == 2 else torch.bmm(x, other)


class TransposedLinear(nn.Module):
    """x @ weight + bias with the weight [inputs, outputs], as GPT-2 keeps it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.02)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class ChannelsLast(nn.Module):
    """A convolution between tensors [N, H, W, C]: what a channels-last tensor is in memory."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Scaled-dot-product attention."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


class Step(nn.Module):
    """One step of an LSTM: the new hidden and cell state side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width, width)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        return torch.cat(self.cell(x, (h, c)), dim=-1)


class Sequence(nn.Module):
    """An LSTM over a whole sequence."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


@cache
def table() -> tuple[Contraction, ...]:
    """All rows, each name once."""
    rows = (*squares(), *layers(), *convolutions(), *lstms(), *attentions())
    return tuple({row.name: row for row in rows}.values())


def find(name: str) -> Contraction:
    """The row of that name. Raises KeyError when there is none."""
    return {row.name: row for row in table()}[name]


def squares() -> Iterator[Contraction]:
    """Products of square matrices, both given on each call."""
    for n in SQUARES:
        yield _row(f"mm_{n}", "square", 2 * n**3, Product, (n, n), (n, n))


def layers() -> Iterator[Contraction]:
    """The products of BERT-base and GPT-2 by number of tokens."""
    for t in TOKENS:
        for k, n in ((768, 768), (768, 3072), (3072, 768)):
            linear = partial(nn.Linear, k, n)
            yield _row(f"bert_{k}x{n}_t{t}", "bert", 2 * t * k * n, linear, (t, k))
        for k, n in ((768, 2304), (768, 768), (768, 3072), (3072, 768)):
            linear = partial(TransposedLinear, k, n)
            yield _row(f"gpt2_{k}x{n}_t{t}", "gpt2", 2 * t * k * n, linear, (t, k))
        head = partial(nn.Linear, 768, 50257, bias=False)
        yield _row(f"gpt2_head_t{t}", "gpt2", 2 * t * 768 * 50257, head, (t, 768))
        flops, square, long = 2 * HEADS * t * t * HEAD, (HEADS, t, t), (HEADS, t, HEAD)
        yield _row(f"bmm_qk_t{t}", "bmm", flops, partial(Product, True), long, long)
        yield _row(f"bmm_pv_t{t}", "bmm", flops, Product, square, long)


def convolutions() -> Iterator[Contraction]:
    """Every distinct convolution of ResNet-50 and MobileNet-v2 on one image of 224 x 224."""
    for name, network in (
        ("resnet50", partial(ResNet, (3, 4, 6, 3), deep=True)),
        ("mobilenet", MobileNetV2),
    ):
        for conv, shape in _convolutions_of(network):
            yield _convolution(name, conv, shape)


def _convolutions_of(network: Callable[[], nn.Module]) -> list[tuple[nn.Conv2d, torch.Size]]:
    """The convolutions of a network with the shapes of their inputs, each kind once."""
    found: dict[Any, tuple[nn.Conv2d, torch.Size]] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        shape = inputs[0].shape
        found.setdefault((shape, str(module)), (module, shape))

    with torch.device("meta"), torch.no_grad():
        model = network().eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(see)
        model(torch.empty(1, 3, 224, 224))
    return list(found.values())


def _convolution(network: str, conv: nn.Conv2d, shape: torch.Size) -> Contraction:
    inputs, outputs, size = conv.in_channels, conv.out_channels, shape[-1]
    kernel, stride, groups = conv.kernel_size[0], conv.stride[0], conv.groups
    padding = int(conv.padding[0])
    out = (size + 2 * padding - kernel) // stride + 1
    flops = 2 * out * out * outputs * (inputs // groups) * kernel**2
    name = f"{network}_{inputs}x{size}_{outputs}_k{kernel}s{stride}" + "g" * (groups > 1)
    make = partial(nn.Conv2d, inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    forms = (
        ("", _model(name, "convolution", make, tuple(shape))),
        (
            "channels-last",
            _model(name, "convolution", lambda: ChannelsLast(make()), (1, size, size, inputs)),
        ),
    )
    return Contraction(name, network, flops, forms)


def lstms() -> Iterator[Contraction]:
    """Steps of LSTMs, and one LSTM of two layers over a sequence."""
    for batch, width in ((1, 128), (1, 256), (1, 512), (1, 1024), (16, 256), (16, 1024)):
        shape = (batch, width)
        flops = 2 * batch * 2 * width * 4 * width
        step = partial(Step, width)
        yield _row(f"lstm_step_{width}_b{batch}", "lstm", flops, step, shape, shape, shape)
    flops = 2 * 64 * 2 * (2 * 256) * 4 * 256
    yield _row("lstm_2x256_64steps", "lstm", flops, partial(Sequence, 256, 2), (1, 64, 256))


def attentions() -> Iterator[Contraction]:
    """Attention of 12 heads of 64 by length; causal ones count the scores that are needed."""
    for n in LENGTHS:
        shape = (1, HEADS, n, HEAD)
        for causal in (False, True):
            scores = n * (n + 1) // 2 if causal else n * n
            name = f"attention_{n}" + "_causal" * causal
            flops = 4 * HEADS * HEAD * scores
            yield _row(name, "attention", flops, partial(Attention, causal), shape, shape, shape)


def _row(
    name: str, kind: str, flops: int, make: Callable[[], nn.Module], *shapes: tuple[int, ...]
) -> Contraction:
    """A row with one form, its inputs random tensors of these shapes."""
    return Contraction(name, kind, flops, (("", _model(name, "dense", make, *shapes)),))


def _model(
    name: str, group: Group, make: Callable[[], nn.Module], *shapes: tuple[int, ...]
) -> Model:
    def build() -> Built:
        return make(), tuple(torch.randn(shape) for shape in shapes)

    return Model(name, group, build, TOLERANCE)
