"""Checkpoints of the authors' Greedy InfoMax code (vision).

https://github.com/loeweX/Greedy_InfoMax
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints import weights_of
from .keys import Converted, Rule, convert_keys


def convert_gim(
    checkpoints: Sequence[Mapping[str, Any]], local_heads: bool = False
) -> Converted:
    r"""The files ``model_<module>_<epoch>.ckpt`` of one epoch, as one.

    The encoder becomes ``backbone.stem.conv`` (module 0 only) and
    ``backbone.stages.<module>.<block>.conv<i>``, with ``downsample`` for the
    shortcuts; the matrices :math:`W_k` of the loss
    ``backbone.local_heads.<module>.predictors.<k>``.

    Args:
        checkpoints (Sequence[Mapping]): Of module 0, 1, ... in turn.
        local_heads (bool): Keep the matrices. By default they are dropped.

    Raises:
        ValueError: If a key is unknown.
    """
    result = Converted({}, [])
    for index, checkpoint in enumerate(checkpoints):
        # Every module calls its stage "layer 0".
        block = rf'backbone.stages.{index}.\1'
        predictor = rf'backbone.local_heads.{index}.predictors.\1.weight'
        rules: list[Rule] = [
            (r'model\.layer 0\.(\d+\.conv[123]\.\w+)', block),
            (
                r'model\.layer 0\.(\d+)\.shortcut\.0\.(\w+)',
                rf'{block}.downsample.\2',
            ),
            (
                r'loss\.W_k\.(\d+)\.weight',
                predictor if local_heads else None,
            ),
        ]
        if index == 0:
            stem = r'backbone.stem.conv.\1'
            rules.append((r'model\.Conv1\.(\w+)', stem))
        part = convert_keys(
            weights_of(checkpoint), rules, f'Greedy InfoMax, module {index}'
        )
        result.state_dict |= part.state_dict
        result.dropped += part.dropped
    return result
