"""What a row of patches tells of the rows below it."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS


@MODELS.register_module()
class GatedPixelCNN(BaseModule):
    """The autoregressor of CPC on a grid of patches.

    Layers of the `gated PixelCNN <https://arxiv.org/abs/1606.05328>`_ with a
    vertical and a horizontal stream. No layer looks at rows below; within a
    row all columns in reach count, on either side, as in the CPC of `Greedy
    InfoMax <https://arxiv.org/abs/1905.11786>`_. With four layers the context
    of row r and column q sees rows r-4 to r and columns q-4 to q+4.

    Args:
        channels (int): C of the grid. A local head fills it in.
        num_layers (int): Defaults to 4.
        init_cfg (dict, optional): Initialization of mmengine. Defaults to
            torch's own, as published.

    Raises:
        ValueError: If there is no layer.
    """

    def __init__(
        self,
        channels: int,
        num_layers: int = 4,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if num_layers < 1:
            raise ValueError(
                f'num_layers={num_layers} must be 1 or more; 4 is the '
                'published value.'
            )
        last = num_layers - 1
        self.layers = nn.ModuleList(
            PixelCNNLayer(channels, index > 0, 0 < index < last)
            for index in range(num_layers)
        )
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """(N, C, rows, columns) to contexts of the same shape."""
        vertical = horizontal = grid
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.out(horizontal)


class PixelCNNLayer(nn.Module):
    """One step of both streams.

    Args:
        channels (int): C.
        residual (bool): Whether the horizontal stream is added to its input.
        residual_down (bool): Whether the vertical one is; nobody would read
            that of the last layer.
    """

    def __init__(self, channels: int, residual: bool, residual_down: bool):
        super().__init__()
        width = 2 * channels
        self.residual = residual
        self.down = nn.Conv2d(channels, width, 3)
        self.across = nn.Conv2d(channels, width, (1, 3), padding=(0, 1))
        self.down_to_across = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.down_residual = None
        if residual_down:
            self.down_residual = nn.Conv2d(channels, width, 1)

    def forward(
        self, vertical: Tensor, horizontal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both streams, (N, C, rows, columns) each."""
        down = self._down(vertical)
        across = self.across(horizontal) + self.down_to_across(down)
        across = self.out(gate(across))
        if self.residual:
            across = across + horizontal
        if self.down_residual is not None:
            down = down + self.down_residual(vertical)
        return gate(down), across

    def _down(self, vertical: Tensor) -> Tensor:
        # The row below is masked: its weights count as 0, and stay as they
        # are.
        weight = self.down.weight[:, :, :2]
        padded = F.pad(vertical, (1, 1, 1, 0))
        return F.conv2d(padded, weight, self.down.bias)


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels, times sigmoid of the other."""
    value, opening = x.chunk(2, dim=1)
    return value.tanh() * opening.sigmoid()
