"""Decoupled neural interfaces: synthetic gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mmlocal.registry import MODELS
from mmlocal.step import current_step

from .base import Boundary, LocalHead
from .layers import upcast
from .synthesizer import SynthesizerBody
from .targets import check_labels, class_labels


@MODELS.register_module()
class DNIHead(LocalHead):
    r"""Trains a module by a prediction of its gradient.

    `Decoupled Neural Interfaces <https://arxiv.org/abs/1608.05343>`_. A
    synthesizer S guesses the gradient of the network's loss by the module's
    output h, from h and, in cDNI, from the label c; the module is trained by
    the guess at once,

    .. math::
        L = \sum h \cdot \mathrm{sg}[\hat g], \qquad
        \hat g = S(\mathrm{sg}[h], c),

    and the synthesizer by the gradient g that comes back from the next
    module later in the same step,

    .. math::
        L_S = \frac{1}{N} \sum \lVert S(\mathrm{sg}[h], c) - g \rVert^2 ,

    summed over the feature, averaged over images. The next module may be
    trained by a guess itself; with ``local_end`` of the backbone, the last
    one is too, and the model's own head gives the only true gradient.

    The synthesizer runs once a step, and its graph is kept until the gradient
    comes; the authors of DGL run it twice, which moves its running
    statistics twice and is the same otherwise.

    Args:
        boundary (Boundary): Where the head sits; a map.
        context (bool): Whether the label is given to the synthesizer (cDNI).
            Defaults to False.
        num_classes (int, optional): Needed for ``context``.
        hidden_channels (int): Of the synthesizer. Defaults to 128.
        zero_bias (bool): Whether guesses are 0 at first. Defaults to False,
            as published.
        init_cfg (dict | list[dict], optional): Initialization of mmengine,
            on top of torch's own, which is the published one.

    Raises:
        ValueError: If ``context`` comes without ``num_classes``, or the
            feature is a sequence.
    """

    needs_gradient = True

    def __init__(
        self,
        boundary: Boundary,
        context: bool = False,
        num_classes: int | None = None,
        hidden_channels: int = 128,
        zero_bias: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(boundary, init_cfg)
        if context and num_classes is None:
            raise ValueError(
                'local_heads: context=True gives labels to the synthesizer: '
                'write num_classes=..., the number of classes of the '
                "model's own head"
            )
        if boundary.layout != 'map':
            raise ValueError(
                f'boundary {boundary.name!r} carries {boundary.layout}, and '
                'the synthesizer is made of 2-D convolutions: choose a '
                'backbone whose features are maps (N, C, H, W)'
            )
        self.num_classes = num_classes if context else None
        self.synthesizer = SynthesizerBody(
            boundary.channels, hidden_channels, self.num_classes, zero_bias
        )

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """A loss whose gradient by ``feat`` is the guess.

        Args:
            feat (Tensor): The module's output (N, C, h, w).
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (Sequence): Annotations of mmpretrain; read with
                ``context``.

        Returns:
            dict[str, Tensor]: ``loss_synthetic``, of no meaning in itself.
        """
        guess = self.synthesizer(feat.detach(), self._context(data_samples))
        guess = upcast(guess)
        current_step().store[self._key] = guess
        return {'loss_synthetic': (upcast(feat) * guess.detach()).sum()}

    def feedback(self, grad: Tensor) -> dict[str, Tensor]:
        """Train the synthesizer.

        Args:
            grad (Tensor): At the next module's input, (N, C, h, w).

        Returns:
            dict[str, Tensor]: ``loss_synthesizer``, and the ``cosine``
            between guess and gradient, over all images.
        """
        step = current_step()
        guess, target = step.store.pop(self._key), step.unscale(grad)
        difference = (guess - target).flatten(1)
        return {
            'loss_synthesizer': difference.square().sum(1).mean(),
            'cosine': F.cosine_similarity(
                guess.detach().flatten(), target.flatten(), dim=0
            ),
        }

    @property
    def _key(self) -> str:
        return f'dni.{self.boundary.index}'

    def _context(self, data_samples: Sequence[Any]) -> Tensor | None:
        if self.num_classes is None:
            return None
        labels = class_labels(data_samples)
        check_labels(labels, self.num_classes)
        if not labels.is_floating_point():
            labels = F.one_hot(labels, self.num_classes)
        return labels.float()
