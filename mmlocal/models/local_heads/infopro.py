"""InfoPro: reconstruct the image, and the task, at each cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mmlocal.registry import MODELS
from mmlocal.step import check_unnormalized, current_step

from .base import Boundary, LocalHead, build_local_head
from .classifiers import CIFAR_NETS, PIXEL_NETS
from .decoders import CIFARDecoder, ProgressiveDecoder
from .dgl import NETS as DGL_NETS
from .dgl import DGLHead
from .greedy import GreedyHead
from .layers import BN, kaiming_convs, upcast
from .supervised import SupervisedHead

# Which task net each preset has.
PRESETS = {
    'cifar': '1c2f',
    'imagenet': 'imagenet',
    'segmentation': 'segmentation',
    'segmentation_lean': 'segmentation_lean',
}
Weight = float | tuple[float, float]


@MODELS.register_module()
class InfoProHead(LocalHead):
    r"""Information propagation (`InfoPro <https://arxiv.org/abs/2101.10832>`_).

    A module keeps what the next ones need if its feature h still tells the
    image x and the label y. At boundary j, with a decoder D and a task net A,

    .. math::
        L_j = \lambda_{1,j} \, \mathrm{BCE}(D_j(h_j), x)
            + \lambda_{2,j} \, T(A_j(h_j), y)

    where x is the augmented image mapped back to [0, 1], and T the softmax
    cross-entropy, the supervised contrastive loss, or any local head's loss.

    Args:
        boundary (Boundary): Where the head sits.
        preset (str): The published auxiliary nets and their initialization:
            ``cifar``, ``imagenet`` or ``segmentation``; or
            ``segmentation_lean``, the last one with a task net of less than
            a fifth of the compute, from 128 channels on. Defaults to
            'cifar'.
        task (str | dict): ``softmax``, ``contrast``, or the config of
            another local head, as ``dict(type='mmlocal.TaskHead', ...)``,
            which brings its own ``num_classes`` and net.
            Defaults to 'softmax'.
        num_classes (int, optional): That of the model's own head. Needed
            for ``softmax``.
        aux_net (str, optional): Net of ``softmax`` and ``contrast``: one of
            :class:`GreedyHead` or :class:`DGLHead`. By default ``1c2f``
            for ``cifar``, and else that of the preset's name.
        widen (float): Factor on the hidden widths of decoder and task net of
            ``cifar``. Defaults to 1.
        feature_dim (int): See :class:`GreedyHead`. Defaults to 128.
        recon_weight (float | tuple[float, float]): :math:`\lambda_1` at all
            boundaries, or at the first and the last, linear in between in
            the boundary's index. At 0 the decoder is not run. Defaults to 1.
        task_weight (float | tuple[float, float]): :math:`\lambda_2`,
            likewise. Defaults to 1.
        norm_cfg (dict): Norm layer after convolutions. Defaults to
            ``dict(type='BN')``.
        init_cfg (dict, optional): Initialization of mmengine, on top of the
            published one (He for convolutions; torch's default otherwise and
            for ``segmentation``).

    Raises:
        ValueError: If an argument is not one of these, a weight is negative,
            or both are 0 here.
    """

    def __init__(
        self,
        boundary: Boundary,
        preset: str = 'cifar',
        task: str | dict = 'softmax',
        num_classes: int | None = None,
        aux_net: str | None = None,
        widen: float = 1.0,
        feature_dim: int = 128,
        recon_weight: Weight = 1.0,
        task_weight: Weight = 1.0,
        norm_cfg: dict = BN,
        init_cfg: dict | None = None,
    ):
        super().__init__(boundary, init_cfg)
        if preset not in PRESETS:
            raise ValueError(
                f'local_heads.preset={preset!r} is unknown: write one of '
                f'{tuple(PRESETS)}'
            )
        if widen != 1 and preset != 'cifar':
            raise ValueError(
                f"local_heads.widen={widen} scales preset='cifar' only, not "
                f'{preset!r}: remove it'
            )
        self.preset = preset
        self.recon_weight = _weight('recon_weight', recon_weight, boundary)
        self.task_weight = _weight('task_weight', task_weight, boundary)
        if self.recon_weight == self.task_weight == 0:
            raise ValueError(
                'local_heads.recon_weight and task_weight are both 0 at '
                f'boundary {boundary.name!r} (number {boundary.index} of '
                f'{boundary.count}), so that its module would not be '
                'trained: raise one of them'
            )
        if preset == 'cifar':
            self.decoder = CIFARDecoder(boundary, norm_cfg, widen)
        else:
            self.decoder = ProgressiveDecoder(boundary, norm_cfg)
        if isinstance(task, str):
            self.task = _task_head(
                boundary,
                aux_net or PRESETS[preset],
                widen,
                loss=task,
                num_classes=num_classes,
                feature_dim=feature_dim,
                norm_cfg=norm_cfg,
            )
        else:
            self.task = build_local_head(task, boundary)
        self._pixels_checked = False
        # What is left out of the loss is no parameter that waits for a
        # gradient.
        if not self.recon_weight:
            self.decoder.requires_grad_(False)
        if not self.task_weight:
            self.task.requires_grad_(False)

    def init_weights(self) -> None:
        """Initialize as published; ``init_cfg`` comes after."""
        if not self.is_init and self.preset not in PIXEL_NETS:
            kaiming_convs(self.decoder)
        super().init_weights()

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the two terms, weighted; one of weight 0 is left out.

        Args:
            feat (Tensor): The module's output, (N, C, h, w) or (N, L, C).
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (Sequence): Annotations.

        Returns:
            dict[str, Tensor]: ``loss_recon``, and what the task head
            returns, as ``loss_task`` and ``acc``.

        Raises:
            RuntimeError: If this is not called within a local step, whose
                data preprocessor tells the pixels.
            ValueError: If the pixels of the first batch cannot be told.
        """
        losses = {}
        if self.recon_weight:
            step = current_step()
            if step is None:
                raise RuntimeError(
                    'InfoProHead.loss needs the step of a local optimizer '
                    'wrapper to tell the pixels from the normalized inputs; '
                    'outside of one, call reconstruction_loss(feat, pixels)'
                )
            if not self._pixels_checked:
                check_unnormalized(step.inputs, step.preprocessor)
                self._pixels_checked = True
            recon = self.reconstruction_loss(feat, step.pixels)
            losses['loss_recon'] = self.recon_weight * recon
        if self.task_weight:
            task = self.task.loss(feat, inputs, data_samples)
            for key, value in task.items():
                scale = self.task_weight if 'loss' in key else 1
                losses[key] = scale * value
        return losses

    def reconstruction_loss(self, feat: Tensor, pixels: Tensor) -> Tensor:
        """Binary cross-entropy of the decoded image, before weighting.

        Args:
            feat (Tensor): (N, C, h, w) or (N, L, C).
            pixels (Tensor): Images (N, C, H, W) in [0, 1].

        Returns:
            Tensor: Scalar, mean over N * C * H * W.
        """
        logits = upcast(self._decode(feat, pixels))
        target = pixels.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target)

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """``reconstruction`` and what the task head predicts.

        A branch of weight 0 has learnt nothing and is left out.
        """
        result = self.task.predict(feat, inputs) if self.task_weight else {}
        if self.recon_weight:
            logits = upcast(self._decode(feat, inputs))
            result['reconstruction'] = logits.sigmoid()
        return result

    def logits(self, feat: Tensor, inputs: Tensor) -> Tensor | None:
        """Of the task head; no image is decoded."""
        return self.task.logits(feat, inputs) if self.task_weight else None

    def _decode(self, feat: Tensor, images: Tensor) -> Tensor:
        return self.decoder(self.to_map(feat, images), images.shape[-2:])


def _task_head(
    boundary: Boundary, net: str, widen: float, **kwargs: Any
) -> SupervisedHead:
    """The head that has this net."""
    if net not in DGL_NETS:
        return GreedyHead(boundary, net, widen=widen, **kwargs)
    if widen != 1:
        raise ValueError(
            f'local_heads.widen={widen} scales the nets {CIFAR_NETS} only, '
            f'not aux_net={net!r}: remove widen or write one of them'
        )
    return DGLHead(boundary, net, **kwargs)


def _weight(name: str, value: Weight, boundary: Boundary) -> float:
    ends = (value,) if isinstance(value, (int, float)) else tuple(value)
    if len(ends) > 2 or min(ends, default=-1) < 0:
        raise ValueError(
            f'local_heads.{name}={value!r} must be a number, or a pair for '
            'the first and the last boundary, of 0 or more'
        )
    return boundary.interpolate(ends if len(ends) == 2 else ends[0])
