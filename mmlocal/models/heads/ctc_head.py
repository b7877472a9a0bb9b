"""Contrastive temporal coding: a classifier that forgets less."""

from __future__ import annotations

import torch
from mmengine.dist import all_gather
from mmpretrain.models import LinearClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS

from ..losses.contrastive_memory import ContrastiveMemoryLoss
from ..losses.instance_memory import InstanceMemoryLoss

PRESETS = {
    'transferability': dict(
        instance_weight=0.5,
        contrast_weight=1.0,
        instance_temperature=0.1,
        contrast_temperature=0.1,
        instance_momentum=0.9,
        contrast_momentum=0.9,
    ),
    'discriminability': dict(
        instance_weight=0.1,
        contrast_weight=1.0,
        instance_temperature=0.5,
        contrast_temperature=0.4,
        instance_momentum=0.9,
        contrast_momentum=0.9,
    ),
}


@MODELS.register_module()
class CTCHead(LinearClsHead):
    r"""The loss of `contrastive temporal coding
    <https://arxiv.org/abs/2203.03871>`_, over a linear classifier.

    In the first stage, with the pooled feature f of image i and a linear
    map P,

    .. math::
        L = \mathrm{CE} + a \, L_\mathrm{instance}(\mathrm{norm}(P f), i)

    which is :class:`mmlocal.InstanceMemoryLoss`; in the second, with the
    feature f' that a snapshot of the network at the end of the first has for
    the same augmented image,

    .. math::
        L = \mathrm{CE} + b \, L_\mathrm{contrast}
            (\mathrm{norm}(E f), \mathrm{norm}(E' f'), i)

    which is :class:`mmlocal.ContrastiveMemoryLoss`. Its model is
    :class:`mmlocal.CTCClassifier`, which has the snapshot, and
    :class:`mmlocal.CTCStageHook` says when which stage is. The classifier's
    weights have the keys of ``LinearClsHead``.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): d, the length of f.
        num_images (int): N, images of the training set.
        preset (str): The published weights, temperatures and momenta:
            ``transferability`` or ``discriminability``. Defaults to
            'transferability'.
        instance_weight (float, optional): a; 0.5 or 0.1 with the presets.
        contrast_weight (float, optional): b; 1 with both.
        instance_temperature (float, optional): 0.1 or 0.5 with the presets.
        contrast_temperature (float, optional): 0.1 or 0.4 with the presets.
        instance_momentum (float, optional): 0.9 with both.
        contrast_momentum (float, optional): 0.9 with both.
        embed_dim (int): Length of the embeddings. Defaults to 128.
        num_negatives (int): K of the second stage. Defaults to 16384.
        positive (str): ``exact`` or ``relax``, see
            :class:`mmlocal.ContrastiveMemoryLoss`. Defaults to 'exact'.
        train_projector (bool): Train P. In the published code it is left as
            it was initialized. Defaults to True.
        init_cfg (dict, optional): Initialization of mmengine. Defaults to
            None, torch's own, as in the published code.
        **kwargs: Of mmpretrain's ``LinearClsHead``.

    Raises:
        ValueError: If preset or positive are unknown.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_images: int,
        preset: str = 'transferability',
        instance_weight: float | None = None,
        contrast_weight: float | None = None,
        instance_temperature: float | None = None,
        contrast_temperature: float | None = None,
        instance_momentum: float | None = None,
        contrast_momentum: float | None = None,
        embed_dim: int = 128,
        num_negatives: int = 16384,
        positive: str = 'exact',
        train_projector: bool = True,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, init_cfg, **kwargs)
        if preset not in PRESETS:
            raise ValueError(
                f'head.preset={preset!r} is unknown: write one of '
                f'{tuple(PRESETS)}'
            )
        given = dict(
            instance_weight=instance_weight,
            contrast_weight=contrast_weight,
            instance_temperature=instance_temperature,
            contrast_temperature=contrast_temperature,
            instance_momentum=instance_momentum,
            contrast_momentum=contrast_momentum,
        )
        given = {k: v for k, v in given.items() if v is not None}
        values = PRESETS[preset] | given
        self.instance_weight = values['instance_weight']
        self.contrast_weight = values['contrast_weight']
        self.instance_loss = InstanceMemoryLoss(
            num_images,
            embed_dim,
            values['instance_temperature'],
            values['instance_momentum'],
        )
        self.contrast_loss = ContrastiveMemoryLoss(
            num_images,
            embed_dim,
            values['contrast_temperature'],
            values['contrast_momentum'],
            num_negatives,
            positive,
        )
        self.projector = nn.Linear(in_channels, embed_dim)
        self.projector.requires_grad_(train_projector)
        self.embed = nn.Linear(in_channels, embed_dim)
        self.bank_embed = nn.Linear(in_channels, embed_dim)
        self.draw_seed: int | None = None
        self._unwritten: tuple[Tensor, ...] | None = None

    def loss(
        self,
        feats: tuple[Tensor],
        data_samples: list[DataSample],
        bank_feats: tuple[Tensor] | None = None,
        **kwargs,
    ) -> dict[str, Tensor]:
        """The losses of a stage.

        Args:
            feats (tuple[Tensor]): The last is f, (B, d).
            data_samples (list[DataSample]): With ``gt_label`` and the meta
                information ``sample_idx``.
            bank_feats (tuple[Tensor], optional): The last is f', (B, d). If
                they are there this is the second stage.
            **kwargs: Of the classification loss.

        Returns:
            dict[str, Tensor]: ``loss_cls`` and ``loss_instance`` or
            ``loss_contrast``, weighted; with ``cal_acc`` the accuracy.

        Raises:
            ValueError: If images have no number or no single class, or what
                was made of the last batch was not written into the memory.
        """
        if self._unwritten is not None:
            raise ValueError(
                'the memories were not updated after the last batch: write '
                "custom_hooks=[dict(type='mmlocal.CTCStageHook', ...)]"
            )
        index = image_numbers(data_samples).to(feats[-1].device)
        losses = super().loss(feats, data_samples, **kwargs)
        losses['loss_cls'] = losses.pop('loss')
        if bank_feats is None:
            made = (self._embed(self.projector, feats),)
            loss = self.instance_loss(*made, index)
            losses['loss_instance'] = self.instance_weight * loss
        else:
            made = self._pair(feats, bank_feats)
            loss = self.contrast_loss(*made, index, self.draw_seed)
            losses['loss_contrast'] = self.contrast_weight * loss
        self._unwritten = (index, *(each.detach() for each in made))
        return losses

    def write_memories(self) -> None:
        """Write what was made of the last batch, on all ranks alike.

        To be called when its gradient has been computed.
        """
        if self._unwritten is not None:
            self._write(*self._unwritten)
            self._unwritten = None

    @torch.no_grad()
    def fill_memories(
        self, bank_feats: tuple[Tensor], data_samples: list[DataSample]
    ) -> None:
        """Set the second stage's memories to embeddings of the snapshot.

        Args:
            bank_feats (tuple[Tensor]): The last is f', (B, d).
            data_samples (list[DataSample]): As of :meth:`loss`.
        """
        index = image_numbers(data_samples).to(bank_feats[-1].device)
        made = self._pair(bank_feats, bank_feats)
        self._write(index, *made, momentum=0)

    def _pair(
        self, feats: tuple[Tensor], bank_feats: tuple[Tensor]
    ) -> tuple[Tensor, Tensor]:
        return (
            self._embed(self.embed, feats),
            self._embed(self.bank_embed, bank_feats),
        )

    def _embed(self, linear: nn.Linear, feats: tuple[Tensor]) -> Tensor:
        feat = self.pre_logits(feats)
        with torch.autocast(feat.device.type, enabled=False):
            return F.normalize(linear(feat.float()), dim=1)

    def _write(self, *tensors: Tensor, **kwargs) -> None:
        index, *made = (torch.cat(all_gather(each)) for each in tensors)
        loss = self.contrast_loss if len(made) == 2 else self.instance_loss
        loss.update(*made, index, **kwargs)


def image_numbers(data_samples: list[DataSample]) -> Tensor:
    """The places of images in the training set, (B, ) int64.

    Raises:
        ValueError: If they have none, or were mixed.
    """
    if any('gt_score' in sample for sample in data_samples):
        raise ValueError(
            'CTCHead remembers each image: remove Mixup and CutMix from '
            'data_preprocessor.batch_augments'
        )
    numbers = [sample.get('sample_idx') for sample in data_samples]
    if None in numbers:
        raise ValueError(
            'CTCHead needs sample_idx of each image: leave meta_keys of '
            "dict(type='PackInputs') out of train_pipeline, or add "
            "'sample_idx' to them"
        )
    return torch.tensor(numbers)
