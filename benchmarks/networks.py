"""Definitions of the networks that the benchmark measures: convolution networks, MLPs, DLRM.

They are the standard architectures (He et al. 2015, "Deep Residual Learning"; Sandler et al. 2018,
"MobileNetV2"; Naumov et al. 2019, "Deep Learning Recommendation Model"), written here so that the
benchmark needs no model zoo. Weights are PyTorch's default random initialisation under the seed
of the caller; `randomise_batch_norm` gives the statistics values that a trained network could have,
so that folding a batch norm into a convolution is not trivially the identity.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def randomise_batch_norm(module: nn.Module) -> None:
    """Give each batch norm of `module` statistics and affine values away from 0 and 1."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.normal_(norm.running_mean, 0.0, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.normal_(norm.bias, 0.0, 0.1)


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A "same" convolution without bias and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)), the block of a ResNet."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(*conv_norm(inputs, outputs, 1, stride))


def basic_block(inputs: int, width: int, stride: int) -> Residual:
    """Two 3×3 convolutions (ResNet-18 and -34)."""
    branch = nn.Sequential(
        *conv_norm(inputs, width, 3, stride), nn.ReLU(), *conv_norm(width, width, 3)
    )
    return Residual(branch, _shortcut(inputs, width, stride))


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1×1, 3×3 and 1×1 convolutions, the last four times as wide (ResNet-50 and deeper)."""
    branch = nn.Sequential(
        *conv_norm(inputs, width, 1),
        nn.ReLU(),
        *conv_norm(width, width, 3, stride),
        nn.ReLU(),
        *conv_norm(width, 4 * width, 1),
    )
    return Residual(branch, _shortcut(inputs, 4 * width, stride))


class ResNet(nn.Module):
    """A residual network for images [N, 3, H, W]; returns logits [N, 1000]."""

    def __init__(self, depths: tuple[int, int, int, int], deep: bool) -> None:
        super().__init__()
        block, expansion = (bottleneck, 4) if deep else (basic_block, 1)
        layers: list[nn.Module] = [*conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(block(channels, 64 << stage, stride))
                channels = (64 << stage) * expansion
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(channels, 1000)
        randomise_batch_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [*conv_norm(inputs, hidden, 1), nn.ReLU6()]
        layers += [*conv_norm(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()]
        self.branch = nn.Sequential(*layers, *conv_norm(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.residual else self.branch(x)


class MobileNetV2(nn.Module):
    """MobileNet V2 at width 1 for images [N, 3, H, W]; returns logits [N, 1000]."""

    STAGES = (  # expansion, channels, repeats, stride: table 2 of the paper
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*conv_norm(3, 32, 3, 2), nn.ReLU6()]
        channels = 32
        for expand, width, repeats, first_stride in self.STAGES:
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(channels, width, stride, expand))
                channels = width
        layers += [*conv_norm(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, 1000)
        randomise_batch_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def mlp(*widths: int, activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers of the given widths with an activation between them, none at the end."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


class DLRM(nn.Module):
    """Recommendation model: dense features [N, 13] and 26 categories, i64 [N, 26], to [N, 1].

    The interaction is the strict lower triangle of the dot products between the 26 embeddings and
    the bottom MLP's output.
    """

    def __init__(self, tables: int = 26, rows: int = 10_000, width: int = 64) -> None:
        super().__init__()
        self.bottom = mlp(13, 512, 256, width, activation=nn.ReLU)
        self.embeddings = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))
        features = tables + 1
        first, second = torch.tril_indices(features, features, offset=-1)
        self.register_buffer("first", first)
        self.register_buffer("second", second)
        self.top = mlp(len(first) + width, 512, 256, 1, activation=nn.ReLU)

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        bottom = F.relu(self.bottom(dense))
        rows = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
        features = torch.stack([bottom, *rows], dim=1)
        products = torch.bmm(features, features.transpose(1, 2))
        interaction = products[:, self.first, self.second]
        return torch.sigmoid(self.top(torch.cat([bottom, interaction], dim=1)))
