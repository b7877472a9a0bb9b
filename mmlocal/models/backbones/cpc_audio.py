"""The encoder of contrastive predictive coding for speech."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS
from mmlocal.step import current_step

from ..gru_context import GRUContext

# Kernel, stride and padding.
LAYERS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))
# Of a local step's store: what the autoregressor of the module has taken in.
ENCODING = 'cpc.encoding'


@MODELS.register_module()
class CPCAudioEncoder(BaseModule):
    """Five convolutions over a waveform, and a recurrent net on top.

    That of `CPC <https://arxiv.org/abs/1807.03748>`_ and of `Greedy InfoMax
    <https://arxiv.org/abs/1905.11786>`_: ReLUs and no norm layers; a position
    of the last layer every 160 samples, 10 ms at 16 kHz. A waveform of 20,480
    samples has 4095, 1023, 512, 257 and 128 positions behind the layers.

    Modules of Greedy InfoMax begin at ``layers.1`` to ``layers.4`` and, as a
    sixth, at ``autoregressor``.

    Args:
        channels (int): Of each layer. Defaults to 512.
        context_channels (int, optional): Of the recurrent net; None for
            none. Defaults to 256.
        bptt (bool): Propagate back through time. Defaults to True.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.
    """

    def __init__(
        self,
        channels: int = 512,
        context_channels: int | None = 256,
        bptt: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.layers = nn.Sequential(
            *(
                WaveLayer(channels if index else 1, channels, *shape)
                for index, shape in enumerate(LAYERS)
            )
        )
        self.autoregressor = None
        if context_channels is not None:
            self.autoregressor = Autoregressor(
                channels, context_channels, bptt
            )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Waveforms (N, 1, samples) to one sequence (N, C, L).

        Raises:
            ValueError: If they have another shape.
        """
        if x.ndim != 3 or x.shape[1] != 1:
            raise ValueError(
                'CPCAudioEncoder takes waveforms (N, 1, samples), not '
                f'{tuple(x.shape)}: write input_shape=(1, 20480) in the '
                'LocalSupervisedBackbone around it, and pack the data by '
                "dict(type='mmlocal.PackAudio')."
            )
        x = self.layers(x)
        if self.autoregressor is not None:
            x = self.autoregressor(x)
        return (x,)


class WaveLayer(nn.Module):
    """A convolution and ReLU.

    Args:
        in_channels (int): Channels in.
        out_channels (int): Channels out.
        kernel_size (int): Of the convolution.
        stride (int): Of the convolution.
        padding (int): Of the convolution, with zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int,
    ):
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride, padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, L) to (N, out_channels, about L / stride)."""
        return self.conv(x).relu()


class Autoregressor(GRUContext):
    """Shows the module's local head what it sums up, in training.

    The head predicts that, from the context.
    """

    def forward(self, feat: Tensor) -> Tensor:
        step = current_step()
        if step is not None and self.training and torch.is_grad_enabled():
            step.store[ENCODING] = feat
        return super().forward(feat)
