"""From a feature to something of its shape: the net of DNI."""

from __future__ import annotations

from torch import Tensor, nn


class SynthesizerBody(nn.Module):
    r"""The three convolutions of a synthetic gradient.

    Of `DNI <https://arxiv.org/abs/1608.05343>`_ on CIFAR-10: 5x5
    convolutions, the first two with BatchNorm and ReLU behind them. The
    last one's weight is 0 at first. With a context (cDNI) the label is added
    to what the first convolution returns, at each place:

    .. math::
        g = W_3 * \sigma(\mathrm{BN}(W_2 * \sigma(\mathrm{BN}(
            W_1 * h + U y)))) , \qquad W_3 = 0

    Args:
        channels (int): C of the feature.
        hidden_channels (int): Of the first two convolutions. Defaults to
            128.
        num_classes (int, optional): Size of the context; None for none.
        zero_bias (bool): Start with 0 in the last convolution's bias, too,
            so that what is returned is 0 at first. The authors of DGL leave
            it random. Defaults to False.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int = 128,
        num_classes: int | None = None,
        zero_bias: bool = False,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden_channels, 5, padding=2)
        self.context = None
        if num_classes is not None:
            self.context = nn.Linear(num_classes, hidden_channels)
        self.bn1 = nn.BatchNorm2d(hidden_channels)
        self.conv2 = nn.Conv2d(hidden_channels, hidden_channels, 5, padding=2)
        self.bn2 = nn.BatchNorm2d(hidden_channels)
        self.conv3 = nn.Conv2d(hidden_channels, channels, 5, padding=2)
        self.relu = nn.ReLU(inplace=True)
        nn.init.zeros_(self.conv3.weight)
        if zero_bias:
            nn.init.zeros_(self.conv3.bias)

    def forward(self, feat: Tensor, context: Tensor | None = None) -> Tensor:
        """Something of the feature's shape.

        Args:
            feat (Tensor): (N, C, h, w).
            context (Tensor, optional): One-hot or soft labels
                (N, num_classes) of float; needed if there is a context, and
                only then.

        Returns:
            Tensor: (N, C, h, w).

        Raises:
            ValueError: If there is a context and no label, or the other way
                round.
        """
        if (context is None) != (self.context is None):
            raise ValueError(
                'SynthesizerBody: pass labels as context if, and only if, '
                'it was built with num_classes'
            )
        x = self.conv1(feat)
        if self.context is not None:
            x = x + self.context(context)[:, :, None, None]
        x = self.conv2(self.relu(self.bn1(x)))
        return self.conv3(self.relu(self.bn2(x)))
