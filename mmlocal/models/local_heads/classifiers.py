"""The task nets of greedy learning and of InfoPro, by name.

``linear``
    Global average pooling and a linear layer; takes tokens and
    sequences too.
``0c1f``, ``0c2f``, ``1c1f``, ``1c2f``, ``1c3f``, ``2c2f``
    InfoPro on CIFAR: that many convolutions and linear layers.
``imagenet``, ``segmentation``
    InfoPro on ImageNet and on Cityscapes.
``segmentation_lean``
    A bottleneck in place of the wide convolution of ``segmentation``, at
    less than a fifth of its compute from 128 channels on.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import Boundary
from .layers import conv_norm_relu

CIFAR_NETS = ('0c1f', '0c2f', '1c1f', '1c2f', '1c3f', '2c2f')
# Those that classify pixels.
PIXEL_NETS = ('segmentation', 'segmentation_lean')
NETS = ('linear', *CIFAR_NETS, 'imagenet', *PIXEL_NETS)


def build_net(
    name: str,
    boundary: Boundary,
    out_features: int,
    norm_cfg: dict,
    widen: float = 1.0,
    feature_dim: int = 128,
) -> nn.Module:
    """Build a task net.

    Args:
        name (str): One of :data:`NETS`.
        boundary (Boundary): Where the feature comes from.
        out_features (int): Size of the output.
        norm_cfg (dict): Norm layer after convolutions.
        widen (float): Factor on the widths of the CIFAR nets. Defaults to 1.
        feature_dim (int): Width of their hidden linear layers, before
            ``widen``. Defaults to 128.

    Returns:
        nn.Module: Takes (N, C, h, w), and ``linear`` also (N, L, C),
        (N, C, L) and (N, C), to (N, out_features); those of
        :data:`PIXEL_NETS` to (N, out_features, h, w).
    """
    channels = boundary.channels
    if name == 'linear':
        return LinearNet(channels, out_features, boundary.layout == 'sequence')
    if name in CIFAR_NETS:
        hidden = int(feature_dim * widen)
        return _cifar_net(
            name, boundary, out_features, norm_cfg, widen, hidden
        )
    nets = {
        'imagenet': _imagenet_net,
        'segmentation': _segmentation_net,
        'segmentation_lean': _lean_segmentation_net,
    }
    return nets[name](channels, out_features, norm_cfg)


class LinearNet(nn.Module):
    """Mean over the positions, then a linear layer.

    Args:
        in_channels (int): C of the feature.
        out_features (int): Size of the output.
        sequence (bool): Whether three dimensions are (N, C, L), not tokens
            (N, L, C).
    """

    def __init__(self, in_channels: int, out_features: int, sequence: bool):
        super().__init__()
        self.positions = {4: (2, 3), 3: 2 if sequence else 1}
        self.fc = nn.Linear(in_channels, out_features)

    def forward(self, feat: Tensor) -> Tensor:
        """(N, C, h, w), (N, L, C) or (N, C, L), or (N, C), to logits."""
        if feat.ndim > 2:
            feat = feat.mean(self.positions[feat.ndim])
        return self.fc(feat)


def _cifar_net(
    name: str,
    boundary: Boundary,
    out_features: int,
    norm_cfg: dict,
    widen: float,
    hidden: int,
) -> nn.Sequential:
    """InfoPro's XcYf: X convolutions, pooling, Y linear layers.

    At stride 4 (the last stage) the width is the feature's; before, the first
    convolution has stride 2 and doubles it.
    """
    num_convs, num_linears = int(name[0]), int(name[2])
    channels, early = boundary.channels, boundary.stride < 4
    width = int((2 if early else 1) * channels * widen)
    layers: list[nn.Module] = []
    for i in range(num_convs):
        stride = 2 if early and i == 0 else 1
        layers += conv_norm_relu(channels, width, 3, norm_cfg, stride)
        channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    for _ in range(num_linears - 1):
        layers += [nn.Linear(channels, hidden), nn.ReLU(inplace=True)]
        channels = hidden
    return nn.Sequential(*layers, nn.Linear(channels, out_features))


def _imagenet_net(
    channels: int, out_features: int, norm_cfg: dict
) -> nn.Sequential:
    """InfoPro on ImageNet: four convolutions to 2048 channels."""
    return nn.Sequential(
        *conv_norm_relu(channels, 128, 1, norm_cfg),
        *conv_norm_relu(128, 256, 3, norm_cfg, stride=2),
        *conv_norm_relu(256, 512, 3, norm_cfg, stride=2),
        *conv_norm_relu(512, 2048, 1, norm_cfg),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2048, out_features),
    )


def _segmentation_net(
    channels: int, out_features: int, norm_cfg: dict
) -> nn.Sequential:
    """InfoPro on Cityscapes: an FCN head of one convolution."""
    return nn.Sequential(
        *conv_norm_relu(channels, channels // 2, 3, norm_cfg, bias=True),
        nn.Dropout2d(0.1),
        nn.Conv2d(channels // 2, out_features, 1),
    )


def _lean_segmentation_net(
    channels: int, out_features: int, norm_cfg: dict
) -> nn.Sequential:
    """A 1x1 convolution to fewer channels, then as FCN.

    To a quarter of them, but no less than 32, or a half: with 8 channels a
    head was seen to tell six classes apart no more, and to spoil its module.
    """
    width = max(channels // 4, min(channels // 2, 32), 1)
    return nn.Sequential(
        *conv_norm_relu(channels, width, 1, norm_cfg),
        *conv_norm_relu(width, width, 3, norm_cfg),
        nn.Dropout2d(0.1),
        nn.Conv2d(width, out_features, 1),
    )
