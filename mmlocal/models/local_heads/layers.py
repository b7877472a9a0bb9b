"""What the auxiliary nets are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The norm layer of the published nets.
BN = {'type': 'BN'}


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm_cfg: dict,
    stride: int = 1,
    bias: bool = False,
) -> list[nn.Module]:
    """A convolution that keeps the size (up to the stride), norm and ReLU."""
    return [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=bias,
        ),
        norm(norm_cfg, out_channels),
        nn.ReLU(inplace=True),
    ]


def norm(norm_cfg: dict, channels: int) -> nn.Module:
    """A norm layer from a config of mm, as ``dict(type='SyncBN')``."""
    from mmcv.cnn import build_norm_layer

    return build_norm_layer(norm_cfg, channels)[1]


def kaiming_convs(module: nn.Module) -> None:
    """He initialization (normal, fan-out) of every convolution's weight.

    Biases and linear layers keep torch's default, as in InfoPro.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(
                layer.weight, mode='fan_out', nonlinearity='relu'
            )


def upcast(x: Tensor) -> Tensor:
    """``x`` in float32 at least, which losses need under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
