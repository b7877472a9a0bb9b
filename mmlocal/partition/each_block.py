"""A module for each block, for any backbone."""

from __future__ import annotations

from mmlocal.models.cut_points import CutPoint, CutPoints
from mmlocal.registry import PARTITIONS


@PARTITIONS.register_module()
class EachBlock:
    """Cuts a backbone behind each of its blocks.

    A block is an element of a list of modules that holds layers and no other
    block: a residual block of ResNet, a layer of ViT, a convolution of VGG
    with its norm and activation. A single layer in a list is none, so the
    convolutions of ResNetV1c's stem are not; downsampling layers that stand
    in a list, as ConvNeXt's, are.

    The stem, if it has weights, is a module of its own, up to the first
    block. What lies between two blocks (the pooling of VGG, the patch merging
    of Swin) opens the second one's module, and what lies behind the last one
    belongs to it. Blocks between which the network cannot be cut, as the
    layers of a DenseNet's stage, stay together.

    With ``local_end=True`` of the backbone the last block has a local head,
    too.

    Example:
        >>> backbone = dict(
        ...     type='mmlocal.LocalSupervisedBackbone',
        ...     backbone=dict(type='ResNet_CIFAR', depth=18),
        ...     boundaries=dict(type='mmlocal.EachBlock'),
        ...     local_end=True,
        ...     local_heads=dict(type='mmlocal.GreedyHead', num_classes=10))
    """

    def __call__(self, points: CutPoints) -> list[str]:
        """The boundaries, in forward order.

        Args:
            points (CutPoints): Where the backbone can be cut.

        Raises:
            ValueError: If there is no place between two blocks.
        """
        chosen, places = [], {cut.name: cut for cut in points.places()}
        for before, block in zip(
            [None, *points.innermost], points.innermost, strict=False
        ):
            cuts = _between(points.order, places, before, block)
            if before is None:
                chosen += cuts[-1:]
            elif cuts:
                chosen.append(_first(cuts, block))
        if not places:
            raise ValueError(
                "model.backbone.boundaries: type='mmlocal.EachBlock': "
                f'{points.why_none()}'
            )
        if not chosen:
            raise ValueError(
                "model.backbone.boundaries: type='mmlocal.EachBlock' finds "
                'no place between two blocks (elements of a list of modules '
                'that hold layers): write the names of the boundaries.'
            )
        return [cut.name for cut in chosen]


def _between(
    order: list[str],
    places: dict[str, CutPoint],
    before: str | None,
    block: str,
) -> list[CutPoint]:
    """The cut points behind one block, up to the next one."""
    begin = 0 if before is None else order.index(before)
    end = order.index(block) + 1
    cuts = [places[name] for name in order[begin:end] if name in places]
    if before is None:
        return cuts
    # What begins with `before` itself and what it is made of does not count.
    return [cut for cut in cuts if not f'{cut.name}.'.startswith(f'{before}.')]


def _first(cuts: list[CutPoint], block: str) -> CutPoint:
    """The first place; by the block's name, if it begins there."""
    place = cuts[0].place
    if cuts[-1].name == block and cuts[-1].place == place:
        return cuts[-1]
    return cuts[0]
