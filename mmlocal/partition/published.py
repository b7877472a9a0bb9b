"""The splits that the papers trained."""

from __future__ import annotations

from difflib import get_close_matches

from mmlocal.models.cut_points import CutPoints
from mmlocal.registry import PARTITIONS


def _cifar(blocks: int, *after: tuple[int, int]) -> list[str]:
    """Boundaries of a CIFAR ResNet cut *after* block b of stage s.

    This is the papers' notation: b counts from 0, (0, 0) is the stem.
    """
    names = []
    for stage, block in after:
        if stage == 0 or block == blocks - 1:
            names.append(f'layer{stage + 1}.0')
        else:
            names.append(f'layer{stage}.{block + 1}')
    return names


def _resnet32(*after: tuple[int, int]) -> list[str]:
    return _cifar(5, *after)


def _resnet110(*after: tuple[int, int]) -> list[str]:
    return _cifar(18, *after)


# InfoPro: equal depth, and (`balanced`) equal memory.
INFOPRO = {
    'resnet32-k2': _resnet32((2, 1)),
    'resnet32-k3': _resnet32((1, 4), (2, 4)),
    'resnet32-k4': _resnet32((1, 2), (2, 1), (3, 0)),
    'resnet32-k8': _resnet32(
        (1, 0), (1, 2), (1, 4), (2, 1), (2, 3), (3, 0), (3, 2)
    ),
    'resnet32-k16': _resnet32(
        (0, 0),
        *((1, block) for block in range(5)),
        *((2, block) for block in range(5)),
        *((3, block) for block in range(4)),
    ),
    'resnet110-k2': _resnet110((2, 8)),
    'resnet110-k3': _resnet110((1, 17), (2, 17)),
    'resnet110-k4': _resnet110((1, 11), (2, 7), (3, 3)),
    'resnet110-k8': _resnet110(
        (1, 4), (1, 11), (2, 0), (2, 7), (2, 14), (3, 3), (3, 10)
    ),
    'resnet110-k16': _resnet110(
        *((1, block) for block in (1, 4, 7, 10, 13, 16)),
        *((2, block) for block in (1, 4, 7, 11, 15)),
        *((3, block) for block in (1, 5, 9, 13)),
    ),
    'resnet110-cifar10-balanced-k2': _resnet110((1, 14)),
    'resnet110-cifar10-balanced-k3': _resnet110((1, 9), (2, 2)),
    'resnet110-cifar10-balanced-k4': _resnet110((1, 6), (1, 14), (2, 8)),
    'resnet110-stl10-balanced-k2': _resnet110((1, 14)),
    'resnet110-stl10-balanced-k3': _resnet110((1, 8), (2, 1)),
    'resnet110-stl10-balanced-k4': _resnet110((1, 6), (1, 14), (2, 8)),
    'resnet101': ['layer2.1'],
    'resnet152': ['layer2.6'],
    'resnext101-32x8d': ['layer2.3'],
    'deeplabv3-r101': ['layer3.13'],
}

# DGL; VGG is mmpretrain's, a pooling opens the module that follows it.
DGL = {
    'vgg13-k10': [f'features.{i}' for i in (1, 2, 4, 5, 7, 8, 10, 11, 13)],
    'vgg13-k4': ['features.4', 'features.8', 'features.13'],
    'vgg19-k4': ['features.5', 'features.10', 'features.15'],
    'vgg19-k2': ['features.10'],
    'resnet152-k2': ['layer3.14'],
    'resnet110-k2': _resnet110((2, 7)),
}

PUBLISHED_SPLITS: dict[str, list[str]] = {
    f'{method}/{name}': boundaries
    for method, table in (('infopro', INFOPRO), ('dgl', DGL))
    for name, boundaries in table.items()
}


@PARTITIONS.register_module()
class PublishedSplit:
    """A split by name, as a paper used it.

    Args:
        name (str): A key of :data:`PUBLISHED_SPLITS`, as
            ``infopro/resnet110-k4`` (equal depth),
            ``infopro/resnet110-cifar10-balanced-k3`` (equal memory) or
            ``dgl/vgg19-k4``.

    Raises:
        ValueError: If there is no such split.
    """

    def __init__(self, name: str):
        if name not in PUBLISHED_SPLITS:
            close = get_close_matches(name, PUBLISHED_SPLITS, n=3, cutoff=0.3)
            raise ValueError(
                f'boundaries.name: no split {name!r} was published; did you '
                f'mean one of {close or sorted(PUBLISHED_SPLITS)}? For any '
                "other, write dict(type='mmlocal.EqualDepth', "
                'num_modules=...) or the names of the boundaries.'
            )
        self.name = name

    def __call__(self, points: CutPoints) -> list[str]:
        """The boundaries, in forward order."""
        return list(PUBLISHED_SPLITS[self.name])
