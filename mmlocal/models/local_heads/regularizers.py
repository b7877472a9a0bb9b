"""What may be added to a local loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmlocal.step import current_step

from ..losses import gaussian_kernel, nhsic

SCOPES = ('global', 'local')
PLACES = ('head', 'feature')


class NHSICRegularizer(nn.Module):
    r"""Rewards what a module's output tells of an input.

    .. math::
        -\lambda \, \mathrm{nHSIC}(h, x)

    with Gaussian kernels of all values of each image, see
    :func:`mmlocal.models.losses.nhsic`: quadratic in the batch in memory, and
    cubic in time.

    Args:
        scope (str): x: 'global', the image, or 'local', what the module took
            in. Defaults to 'global'.
        on (str): h: 'head', what the local head makes of the feature, as
            published, or 'feature' itself. Defaults to 'head'.
        weight (float): :math:`\lambda`. Defaults to 1.
        sigma (float): Of the kernels. Defaults to 5.
        eps (float): Of nHSIC. Defaults to 1e-5.

    Raises:
        ValueError: If an argument is not one of these.
    """

    def __init__(
        self,
        scope: str = 'global',
        on: str = 'head',
        weight: float = 1.0,
        sigma: float = 5.0,
        eps: float = 1e-5,
    ):
        super().__init__()
        for key, value, known in [
            ('scope', scope, SCOPES),
            ('on', on, PLACES),
        ]:
            if value not in known:
                raise ValueError(
                    f'local_heads.regularizer.{key}={value!r} is unknown: '
                    f'write one of {known}'
                )
        if weight < 0:
            raise ValueError(
                f'local_heads.regularizer.weight={weight} must be 0 or more: '
                'information is rewarded'
            )
        self.scope, self.on, self.weight = scope, on, weight
        self.sigma, self.eps = sigma, eps

    def forward(
        self, feat: Tensor, output: Tensor, inputs: Tensor
    ) -> dict[str, Tensor]:
        """Compute the term, in float32 at least, under autocast too.

        Args:
            feat (Tensor): The module's output (N, ...).
            output (Tensor): What the head makes of it (N, ...).
            inputs (Tensor): Images (N, C, H, W).

        Returns:
            dict[str, Tensor]: ``loss_nhsic``, and ``nhsic`` itself.

        Raises:
            RuntimeError: If the scope is local and this is not called within
                a local step, which knows the module's input.
        """
        told = output if self.on == 'head' else feat
        source = inputs if self.scope == 'global' else _module_input()
        with torch.autocast(feat.device.type, enabled=False):
            kernels = [
                gaussian_kernel(x, self.sigma) for x in (told, source.detach())
            ]
            value = nhsic(*kernels, self.eps)
        return {'loss_nhsic': -self.weight * value, 'nhsic': value}


def _module_input() -> Tensor:
    step = current_step()
    if step is None:
        raise RuntimeError(
            "local_heads.regularizer.scope='local' needs the step of a local "
            "optimizer wrapper, which knows the module's input"
        )
    return step.module_input
