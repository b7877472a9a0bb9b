"""A classifier with a snapshot of itself."""

from __future__ import annotations

from copy import deepcopy

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmlocal.registry import MODELS

from ..backbones.local_supervised import LocalSupervisedBackbone


@MODELS.register_module()
class CTCClassifier(ImageClassifier):
    """mmpretrain's classifier for contrastive temporal coding.

    The head is a :class:`mmlocal.CTCHead`; :class:`mmlocal.CTCStageHook`
    drives the two stages. Predictions, and the keys of backbone, neck and
    classifier, are those of ``ImageClassifier``.

    Args:
        *args: Of mmpretrain's ``ImageClassifier``.
        **kwargs: Likewise.

    Attributes:
        stage (int): 1, or 2 once there is a snapshot to compare with.
        info_bank (Snapshot): Is in the checkpoint, like the memories.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stage = 1
        self.info_bank = Snapshot(self.backbone, self.neck)

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample]
    ) -> dict[str, Tensor]:
        """The losses of the stage, see :class:`mmlocal.CTCHead`."""
        feats = self.extract_feat(inputs)
        bank_feats = self.info_bank(inputs) if self.stage == 2 else None
        return self.head.loss(feats, data_samples, bank_feats)

    def begin_training(self, labels: Tensor) -> None:
        """Say which class each image of the training set has.

        Args:
            labels (Tensor): Class indices (N, ), int64.

        Raises:
            ValueError: If the head does not fit them.
        """
        try:
            self.head.contrast_loss.set_labels(labels)
        except ValueError as error:
            raise ValueError(f'model.head: {error}') from error

    def take_snapshot(self) -> None:
        """Keep the network as it is now, for the second stage."""
        self.info_bank.take(self.backbone, self.neck)
        self.head.contrast_loss.scales.zero_()

    def seed_draw(self, seed: int) -> None:
        """Say which negatives the next batch has."""
        self.head.draw_seed = seed

    def write_memories(self) -> None:
        """See :meth:`mmlocal.CTCHead.write_memories`."""
        self.head.write_memories()

    def fill_memories(self, data: dict) -> None:
        """Set the second stage's memories to embeddings of the snapshot.

        Args:
            data (dict): A batch of the training set's data loader.
        """
        data = self.data_preprocessor(data, True)
        bank_feats = self.info_bank(data['inputs'])
        self.head.fill_memories(bank_feats, data['data_samples'])


class Snapshot(nn.Module):
    """A network as it was, which nothing changes.

    Args:
        backbone (nn.Module): One that is cut into modules is copied whole.
        neck (nn.Module, optional): What pools its output.

    Attributes:
        taken (Tensor): How often :meth:`take` was called; in the checkpoint.
    """

    taken: Tensor

    def __init__(self, backbone: nn.Module, neck: nn.Module | None):
        super().__init__()
        self.backbone = deepcopy(plain(backbone))
        self.neck = nn.Identity() if neck is None else deepcopy(neck)
        self.register_buffer('taken', torch.tensor(0))
        self.requires_grad_(False)
        self.eval()

    def take(self, backbone: nn.Module, neck: nn.Module | None) -> None:
        """Copy the weights and statistics of a network."""
        self.backbone.load_state_dict(plain(backbone).state_dict())
        if neck is not None:
            self.neck.load_state_dict(neck.state_dict())
        self.taken += 1

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to features, pooled by the neck."""
        return self.neck(self.backbone(inputs))

    def train(self, mode: bool = True) -> Snapshot:
        """Stay as it is: BatchNorm goes on with its running statistics."""
        return super().train(False)


def plain(backbone: nn.Module) -> nn.Module:
    """The backbone inside of one that is cut into modules."""
    if isinstance(backbone, LocalSupervisedBackbone):
        return backbone.backbone
    return backbone
