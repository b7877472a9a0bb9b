"""ResNets of torchvision and timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checkpoints import weights_of
from .keys import Converted, Rule, convert_keys

BODY = r'(layer[1-4]\.\d+\.(?:conv[123]|bn[123]|downsample\.[012])\.\w+)'


def convert_torchvision(
    checkpoint: Mapping[str, Any], classifier: bool = True
) -> Converted:
    """A ResNet or ResNeXt of torchvision.

    It fits mmpretrain's and mmseg's ``ResNet`` and ``ResNeXt`` (with
    ``style='pytorch'``).

    Args:
        checkpoint (Mapping): Its state dict.
        classifier (bool): Keep ``fc``, for an ``ImageClassifier`` with a
            ``LinearClsHead``; else drop it, for a segmentor. Defaults to
            True.

    Raises:
        ValueError: If a key is unknown.
    """
    rules: list[Rule] = [(r'((?:conv1|bn1)\.\w+)', r'backbone.\1')]
    rules += _common(classifier)
    return convert_keys(weights_of(checkpoint), rules, 'a torchvision ResNet')


def convert_timm(
    checkpoint: Mapping[str, Any], classifier: bool = True
) -> Converted:
    """A ResNet or ResNeXt of timm, of the kinds that mm has.

    ``resnet50`` and the like fit ``ResNet``; ``resnet50c`` (a stem of three
    convolutions) ``ResNetV1c``, and ``resnet50d`` (the shortcuts pool too)
    ``ResNetV1d``. The stem has mmpretrain's keys with a classifier, mmseg's
    without.

    Args:
        checkpoint (Mapping): Its state dict.
        classifier (bool): As for :func:`convert_torchvision`.

    Raises:
        ValueError: If a key is unknown, as those of attention modules.
    """
    weights = weights_of(checkpoint)
    rules: list[Rule] = [(r'((?:conv1|bn1)\.\w+)', r'backbone.\1')]
    if 'conv1.0.weight' in weights:
        rules = _deep_stem(classifier)
    first = 'layer1.0.downsample'
    if classifier and f'{first}.2.weight' in weights:
        # Without a stride there is nothing to pool: timm keeps the place of
        # the pooling (as mmseg does), mmpretrain does not.
        for old, new in (1, 0), (2, 1):
            rules.append(
                (rf'{first}\.{old}\.(\w+)', rf'backbone.{first}.{new}.\1')
            )
    rules += _common(classifier)
    return convert_keys(weights, rules, 'a timm ResNet')


def _deep_stem(classifier: bool) -> list[Rule]:
    """Three convolutions: conv1 is all but the last norm, which is bn1."""
    if not classifier:
        return [
            (r'conv1\.([01346]\.\w+)', r'backbone.stem.\1'),
            (r'bn1\.(\w+)', r'backbone.stem.7.\1'),
        ]
    names = {
        r'conv1\.0': '0.conv',
        r'conv1\.1': '0.bn',
        r'conv1\.3': '1.conv',
        r'conv1\.4': '1.bn',
        r'conv1\.6': '2.conv',
        'bn1': '2.bn',
    }
    return [
        (rf'{old}\.(\w+)', rf'backbone.stem.{new}.\1')
        for old, new in names.items()
    ]


def _common(classifier: bool) -> list[Rule]:
    head = r'head.fc.\1' if classifier else None
    return [
        (BODY, r'backbone.\1'),
        (r'fc\.(weight|bias)', head),
    ]
