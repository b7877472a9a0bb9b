"""Decoupled greedy learning: an auxiliary net that is worth its cost."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS

from .base import Boundary
from .layers import BN, conv_norm_relu, norm
from .supervised import SupervisedHead
from .synthesizer import SynthesizerBody


class Recipe(NamedTuple):
    """What a net of :class:`DGLNet` is made of."""

    pools_first: bool
    num_convs: int
    kernel_size: int
    hidden_layers: int


RECIPES = {
    'cnn': Recipe(False, 2, 3, 0),
    'mlp': Recipe(True, 0, 1, 3),
    'mlp-sr': Recipe(True, 3, 1, 3),
    'buffer': Recipe(False, 0, 3, 3),
}
NETS = (*RECIPES, 'synthesizer')


@MODELS.register_module()
class DGLHead(SupervisedHead):
    """The local head of `DGL <https://arxiv.org/abs/1901.08164>`_.

    With C channels of the feature:

    ``mlp-sr``
        Pools to a quarter of the side, three 1x1 convolutions, pools to
        2x2, three hidden layers of 4C units.
    ``mlp``
        That without the convolutions.
    ``cnn``
        Two 3x3 convolutions at full resolution, pools to 2x2, BatchNorm, no
        hidden layer.
    ``buffer``
        Of the experiments with replay buffers: pools to 2x2, three hidden
        layers. With ``num_convs`` 3x3 convolutions before.
    ``synthesizer``
        Of the comparison with DNI: the three 5x5 convolutions of a
        synthesizer, global pooling and a linear layer. As the last
        convolution starts at 0, the module gets no gradient in the first
        step.

    Args:
        boundary (Boundary): Where the head sits.
        net (str): One of these. Defaults to 'mlp-sr'.
        num_classes (int, optional): That of the model's own head. Needed
            for ``softmax``.
        num_convs (int, optional): How many convolutions ``cnn``, ``mlp``,
            ``mlp-sr`` and ``buffer`` have. By default those above.
        hidden_layers (int, optional): How many hidden layers these have; at
            0 there is a BatchNorm in their place. By default those above.
        side (int, optional): Side of the feature that is divided by 4 to
            pool in ``mlp`` and ``mlp-sr``. By default that of the feature
            at hand; the published ResNet-152 counts half of it.
        loss (str): ``softmax`` cross-entropy, or ``contrast``, the
            supervised contrastive loss. Defaults to 'softmax'.
        feature_dim (int): Size of the embedding in ``contrast``. Defaults
            to 128.
        temperature (float): Of the contrastive loss. Defaults to 0.07.
        norm_cfg (dict): Norm layer after the convolutions of all but
            ``synthesizer``; hidden layers have BatchNorm always. Defaults
            to ``dict(type='BN')``.
        init_cfg (dict | list[dict], optional): Initialization of mmengine,
            on top of torch's default, which is the published one on CIFAR.

    Raises:
        ValueError: If an argument is not one of these, or the net does not
            read it.
    """

    def __init__(
        self,
        boundary: Boundary,
        net: str = 'mlp-sr',
        num_classes: int | None = None,
        num_convs: int | None = None,
        hidden_layers: int | None = None,
        side: int | None = None,
        loss: str = 'softmax',
        feature_dim: int = 128,
        temperature: float = 0.07,
        norm_cfg: dict = BN,
        init_cfg: dict | list[dict] | None = None,
    ):
        _check(net, num_convs, hidden_layers, side)
        super().__init__(
            boundary,
            num_classes,
            loss,
            feature_dim,
            temperature,
            init_cfg=init_cfg,
        )
        if net == 'synthesizer':
            self.net = SynthesizerNet(boundary.channels, self.out_features)
            return
        recipe = RECIPES[net]
        if num_convs is not None:
            recipe = recipe._replace(num_convs=num_convs)
        if hidden_layers is not None:
            recipe = recipe._replace(hidden_layers=hidden_layers)
        self.net = DGLNet(
            boundary.channels, self.out_features, recipe, norm_cfg, side
        )


class DGLNet(nn.Module):
    """Pooling, convolutions, pooling to 2x2, hidden layers, a linear layer.

    The poolings are adaptive: where a side is even, 2x2 is what an average
    over windows of half the side gives.

    Args:
        channels (int): C of the feature.
        out_features (int): Size of the output.
        recipe (Recipe): How many layers of which kind.
        norm_cfg (dict): Norm layer after convolutions.
        side (int, optional): See :class:`DGLHead`.
    """

    def __init__(
        self,
        channels: int,
        out_features: int,
        recipe: Recipe,
        norm_cfg: dict = BN,
        side: int | None = None,
    ):
        super().__init__()
        self.pools_first = recipe.pools_first
        self.side = side
        self.convs = nn.Sequential()
        for _ in range(recipe.num_convs):
            self.convs.extend(
                conv_norm_relu(
                    channels, channels, recipe.kernel_size, norm_cfg
                )
            )
        width = 4 * channels
        self.mlp = nn.Sequential()
        if not recipe.hidden_layers:
            self.mlp.append(norm(norm_cfg, channels))
        self.mlp.append(nn.Flatten())
        for _ in range(recipe.hidden_layers):
            self.mlp.append(nn.Linear(width, width))
            self.mlp.append(nn.BatchNorm1d(width))
            self.mlp.append(nn.ReLU(inplace=True))
        self.mlp.append(nn.Linear(width, out_features))

    def forward(self, feat: Tensor) -> Tensor:
        """(N, C, h, w) to (N, out_features)."""
        if self.pools_first:
            sides = (self.side,) * 2 if self.side else feat.shape[-2:]
            quarter = [-(-side // 4) for side in sides]
            feat = F.adaptive_avg_pool2d(feat, quarter)
        return self.mlp(F.adaptive_avg_pool2d(self.convs(feat), 2))


class SynthesizerNet(nn.Module):
    """A synthesizer without context, global pooling and a linear layer.

    Args:
        channels (int): C of the feature.
        out_features (int): Size of the output.
    """

    def __init__(self, channels: int, out_features: int):
        super().__init__()
        self.body = SynthesizerBody(channels)
        self.fc = nn.Linear(channels, out_features)

    def forward(self, feat: Tensor) -> Tensor:
        """(N, C, h, w) to (N, out_features)."""
        return self.fc(self.body(feat).mean((2, 3)))


def _check(
    net: str,
    num_convs: int | None,
    hidden_layers: int | None,
    side: int | None,
) -> None:
    if net not in NETS:
        raise ValueError(
            f'local_heads.net={net!r} is unknown: write one of {NETS}; '
            "others are nets of type='mmlocal.GreedyHead'"
        )
    counts = {'num_convs': num_convs, 'hidden_layers': hidden_layers}
    for key, value in counts.items():
        if value is None:
            continue
        if net not in RECIPES:
            raise ValueError(
                f'local_heads.{key} is not read by net={net!r}: remove it, '
                f'or write one of {tuple(RECIPES)}'
            )
        if value < 0:
            raise ValueError(
                f'local_heads.{key}={value} must be 0 or more; '
                f'{getattr(RECIPES[net], key)} is the published value'
            )
    if side is not None:
        pooled = tuple(name for name in RECIPES if RECIPES[name].pools_first)
        if net not in pooled:
            raise ValueError(
                f'local_heads.side is not read by net={net!r}: remove it, or '
                f'write one of {pooled}'
            )
        if side < 1:
            raise ValueError(
                f'local_heads.side={side} must be 1 or more: write the side '
                'of the feature in cells, or remove it'
            )
