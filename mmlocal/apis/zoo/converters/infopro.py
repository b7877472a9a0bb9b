"""Checkpoints of the authors' InfoPro code.

https://github.com/blackfeather-wang/InfoPro-Pytorch
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..checkpoints import weights_of
from .keys import Converted, Rule, convert_keys

RESNET = (
    r'((?:conv1|bn1|layer[1-4]\.\d+\.(?:conv\d|bn\d|downsample\.[01]))\.\w+)'
)
# Their decoder is one Sequential in which each norm follows its convolution;
# ours has a block for each resolution.
DECODER = {0: 'blocks.0.0', 1: 'blocks.0.1', 4: 'blocks.1.0'}
DECODER |= {5: 'blocks.1.1', 8: 'blocks.2.0', 9: 'blocks.2.1', 12: 'to_image'}
LOCAL_HEAD = 'backbone.local_heads'


def convert_imagenet(
    checkpoint: Mapping[str, Any], local_heads: bool = False
) -> Converted:
    """ResNet-101, -152 or ResNeXt-101, K = 2, to mmpretrain's classifier.

    Args:
        checkpoint (Mapping): The released file, or one of a training.
        local_heads (bool): Keep decoder and task net, under the keys of the
            ``InfoProHead`` at the boundary. By default they are dropped, and
            the keys are those of a plain ``ImageClassifier``.

    Raises:
        ValueError: If a key is unknown.
    """
    rules: list[Rule] = [
        (RESNET, r'backbone.\1'),
        (r'fc\.(weight|bias)', r'head.fc.\1'),
    ]
    rules += _decoder(r'decoder\.decoder\.', local_heads)
    rules += _task(r'head\.', (0, 1, 3, 4, 6, 7, 9, 10, 14), local_heads)
    return convert_keys(
        weights_of(checkpoint), rules, "InfoPro's ImageNet code"
    )


def convert_cityscapes(
    checkpoint: Mapping[str, Any], local_heads: bool = False
) -> Converted:
    """DeepLabV3-R101, K = 2 or end to end, to mmseg's segmentor.

    Args:
        checkpoint (Mapping): The released file, or one of a training.
        local_heads (bool): As for :func:`convert_imagenet`. The end-to-end
            files have them too, untrained.

    Raises:
        ValueError: If a key is unknown.
    """
    rules: list[Rule] = [
        (r'(backbone\.(?:stem|layer[1-4])\..+)', r'\1'),
        (
            r'(decode_head\.(?:conv_seg|image_pool|aspp_modules|bottleneck)'
            r'\..+)',
            r'\1',
        ),
        (r'(auxiliary_head\.(?:convs|conv_seg)\..+)', r'\1'),
    ]
    rules += _decoder(r'decoder_inter\.', local_heads)
    rules += _task(r'head_inter\.', (0, 1, 4), local_heads)
    result = convert_keys(
        weights_of(checkpoint), rules, "InfoPro's segmentation code"
    )
    meta = checkpoint.get('meta') or {}
    if 'CLASSES' in meta:
        result.meta['dataset_meta'] = {
            'classes': tuple(meta['CLASSES']),
            'palette': [list(color) for color in meta['PALETTE']],
        }
    return result


def convert_cifar(
    checkpoint: Mapping[str, Any], local_heads: bool = False
) -> Converted:
    """A training checkpoint of ResNet-32 or -110, to ``CIFARResNet``.

    The local heads are numbered in the order of their blocks in the network,
    which the keys tell (``decoder_<stage>_<block>``).

    Args:
        checkpoint (Mapping): Of the CIFAR, SVHN and STL-10 code, any K.
        local_heads (bool): As for :func:`convert_imagenet`.

    Raises:
        ValueError: If a key is unknown.
    """
    weights = weights_of(checkpoint)
    cut = re.compile(r'(?:decoder|aux_classifier)_(\d+)_(\d+)\.')
    blocks = {m.groups() for key in weights if (m := cut.match(key))}
    rules: list[Rule] = [
        (RESNET, r'backbone.\1'),
        (r'fc\.(weight|bias)', r'head.fc.\1'),
    ]
    ordered = sorted(blocks, key=lambda block: tuple(map(int, block)))
    for index, (stage, block) in enumerate(ordered):
        for old, new in (
            (rf'decoder_{stage}_{block}\.decoder', 'decoder.decoder'),
            (rf'aux_classifier_{stage}_{block}\.head', 'task.net'),
        ):
            target = rf'{LOCAL_HEAD}.{index}.{new}.\1'
            rules.append(
                (rf'{old}\.(\d+\.\w+)', target if local_heads else None)
            )
    return convert_keys(weights, rules, "InfoPro's CIFAR code")


def _decoder(prefix: str, keep: bool) -> list[Rule]:
    target = rf'{LOCAL_HEAD}.0.decoder.{{}}.\1'
    return [
        (rf'{prefix}{old}\.(\w+)', target.format(new) if keep else None)
        for old, new in DECODER.items()
    ]


def _task(prefix: str, layers: tuple[int, ...], keep: bool) -> list[Rule]:
    numbers = '|'.join(map(str, layers))
    target = rf'{LOCAL_HEAD}.0.task.net.\1' if keep else None
    return [(rf'{prefix}((?:{numbers})\.\w+)', target)]
