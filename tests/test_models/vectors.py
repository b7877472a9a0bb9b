"""Generates the numbers that tests pin: ``python vectors.py`` prints them.

Plain PyTorch from the equations of InfoPro (https://arxiv.org/abs/2101.10832)
and SupCon (https://arxiv.org/abs/2004.11362), without MMLocal. Weights and
data follow from their size alone:

* a convolution or linear layer of n weights has those of
  ``RandomState(n).standard_normal(n)``, scaled by sqrt(2 / fan_in); biases
  are 0, BatchNorms 1 and 0 in train mode; all in float64;
* pixels are ``RandomState(1).randint(0, 256, shape) / 255``;
* features are ``RandomState(2).standard_normal(shape)``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LABELS = [0, 1, 0, 2, 1, 0, 3, 2]
# Channels, side and stride behind the stages of a CIFAR ResNet.
STAGES = [(16, 32, 1), (32, 16, 2), (64, 8, 4)]


def fill(module: nn.Module) -> nn.Module:
    """Weights from their size alone; module in float64, train mode."""
    module.double().train()
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            weight = layer.weight.data
            fan_in = weight.numel() / weight.shape[0]
            random = np.random.RandomState(weight.numel())
            values = random.standard_normal(weight.numel())
            weight.copy_(torch.from_numpy(values).view_as(weight))
            weight *= math.sqrt(2 / fan_in)
            if layer.bias is not None:
                layer.bias.data.zero_()
    return module


def features(*shape: int) -> Tensor:
    """A leaf of this shape."""
    values = np.random.RandomState(2).standard_normal(shape)
    return torch.from_numpy(values).requires_grad_()


def pixels(*shape: int) -> Tensor:
    """Images in [0, 1]."""
    values = np.random.RandomState(1).randint(0, 256, shape) / 255
    return torch.from_numpy(values)


def reconstruction_loss(channels: int, side: int) -> tuple[Tensor, Tensor]:
    """BCE of InfoPro's CIFAR decoder, and its feature."""
    decoder = fill(
        nn.Sequential(
            nn.Upsample((32, 32), mode='bilinear', align_corners=True),
            nn.Conv2d(channels, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 3, 3, padding=1),
            nn.Sigmoid(),
        )
    )
    feat = features(8, channels, side, side)
    return F.binary_cross_entropy(decoder(feat), pixels(8, 3, 32, 32)), feat


def task_loss(
    channels: int, side: int, loss: str = 'softmax'
) -> tuple[Tensor, Tensor]:
    """Loss of InfoPro's auxiliary net of one convolution, and its feature."""
    hidden, stride = (64, 1) if channels == 64 else (2 * channels, 2)
    outputs = 10 if loss == 'softmax' else 128
    net = fill(
        nn.Sequential(
            nn.Conv2d(channels, hidden, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(hidden, 128),
            nn.ReLU(),
            nn.Linear(128, outputs),
        )
    )
    feat = features(8, channels, side, side)
    embedding, labels = net(feat), torch.tensor(LABELS)
    if loss == 'softmax':
        return F.cross_entropy(embedding, labels), feat
    return supcon(F.normalize(embedding, dim=1), labels), feat


def supcon(embedding: Tensor, labels: Tensor, temperature=0.07) -> Tensor:
    """Of normalized rows; an anchor without positives counts as 0."""
    similar = embedding @ embedding.T / temperature
    other = ~torch.eye(len(labels), dtype=torch.bool)
    positive = (labels[:, None] == labels) & other
    norm = similar.masked_fill(~other, -math.inf).logsumexp(1, keepdim=True)
    total = torch.where(positive, similar - norm, 0.0).sum(1)
    return -(total / positive.sum(1).clamp(min=1)).mean()


def main() -> None:
    """Print each value and the norm of its gradient at the feature."""
    for channels, side, _ in STAGES:
        for name, (loss, feat) in {
            'reconstruction': reconstruction_loss(channels, side),
            'contrast': task_loss(channels, side, 'contrast'),
            'softmax': task_loss(channels, side, 'softmax'),
        }.items():
            loss.backward()
            print(
                f'{name:14} {channels:3} channels: {loss.item():.12f}, '
                f'gradient {feat.grad.norm().item():.10e}'
            )
    embedding = F.normalize(features(8, 128).detach(), dim=1)
    print(f'SupCon: {supcon(embedding, torch.tensor(LABELS)).item():.12f}')


if __name__ == '__main__':
    main()
