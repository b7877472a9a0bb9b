"""Checkpoints of the authors' Greedy InfoMax code (vision).

https://github.com/loeweX/Greedy_InfoMax
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints import weights_of
from .keys import Converted, Rule, convert_keys

BACKBONE = 'backbone.backbone'


def convert_gim(
    checkpoints: Sequence[Mapping[str, Any]], local_heads: bool = False
) -> Converted:
    r"""The files ``model_<module>_<epoch>.ckpt`` of one epoch, as one.

    They fit a classifier with a ``PreActResNet`` in a ``PatchBackbone``: the
    encoder becomes ``backbone.backbone.stem`` (module 0 only) and
    ``backbone.backbone.stages.<module>.<block>.conv<i>``, with ``downsample``
    for the shortcuts. The matrices :math:`W_k` of the loss are
    ``backbone.local_heads.<module>.predictors.<k>``; linear classifiers, of a
    supervised training, those of a ``TaskHead``, and ``head`` behind the last
    module.

    Of a training end to end there is one file with all stages. That of CPC
    lacks the autoregressor, and has matrices that were never trained; they
    are dropped.

    Args:
        checkpoints (Sequence[Mapping]): Of module 0, 1, ... in turn.
        local_heads (bool): Keep what trained the modules. By default it is
            dropped.

    Raises:
        ValueError: If a key is unknown.
    """
    result = Converted({}, [])
    for index, checkpoint in enumerate(checkpoints):
        weights = weights_of(checkpoint)
        whole = any(key.startswith('model.layer 1.') for key in weights)
        is_last = whole or 0 < index == len(checkpoints) - 1
        # Every module of several calls its stage "layer 0".
        layer, stage = (r'([012])', r'\1') if whole else ('(0)', str(index))
        block = rf'{BACKBONE}.stages.{stage}.\2'
        head = rf'backbone.local_heads.{index}'
        rules: list[Rule] = [
            (rf'model\.layer {layer}\.(\d+\.conv[123]\.\w+)', block),
            (
                rf'model\.layer {layer}\.(\d+)\.shortcut\.0\.(\w+)',
                rf'{block}.downsample.\3',
            ),
            (
                r'loss\.W_k\.(\d+)\.weight',
                rf'{head}.predictors.\1.weight'
                if local_heads and not whole
                else None,
            ),
        ]
        classifier = r'loss\.linear_classifier\.0\.(\w+)'
        if is_last:
            rules.append((classifier, r'head.fc.\1'))
        else:
            rules.append(
                (classifier, rf'{head}.head.fc.\1' if local_heads else None)
            )
        if index == 0:
            rules.append((r'model\.Conv1\.(\w+)', rf'{BACKBONE}.stem.\1'))
        part = convert_keys(weights, rules, f'Greedy InfoMax, module {index}')
        result.state_dict |= part.state_dict
        result.dropped += part.dropped
    return result
