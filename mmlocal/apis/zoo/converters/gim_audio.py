"""Checkpoints of the authors' Greedy InfoMax code (audio).

https://github.com/loeweX/Greedy_InfoMax
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..checkpoints import weights_of
from .keys import Converted, Rule, convert_keys

KEY = r'fullmodel\.{}\.(?:encoder\.)?{}'
LAYER = r'model\.layer {}\.0\.(weight|bias)'
# Without back-propagation through time the authors have a GRUCell, whose
# keys lack the number of the layer.
GRU = r'autoregressor\.gru\.((?:weight|bias)_[ih]h)(?:_l0)?'


def convert_gim_audio(
    checkpoint: Mapping[str, Any], local_heads: bool = False
) -> Converted:
    r"""A file ``model_<epoch>.ckpt``, to ``CPCAudioEncoder``.

    Layers are numbered through all modules, which may hold one, all, or, as
    the sixth, none. A recurrent net of the last module is the backbone's
    ``autoregressor``, one of a module before is the local head's ``context``;
    the matrices :math:`W_k` are its ``predictor``.

    Args:
        checkpoint (Mapping): Of one, five or six modules, also of supervised
            training.
        local_heads (bool): Keep what belongs to local heads. By default it
            is dropped.

    Raises:
        ValueError: If a key is unknown.
    """
    weights = weights_of(checkpoint)
    number = r'(\d+)'
    layers = _numbers(weights, KEY.format(number, LAYER.format(number)))
    modules = _numbers(weights, KEY.format(number, '.+'))
    rules: list[Rule] = [
        (
            KEY.format(module, LAYER.format(layer)),
            rf'backbone.layers.{place}.conv.\1',
        )
        for place, (module, layer) in enumerate(layers)
    ]
    for (index,) in modules:
        last = (index,) == modules[-1]
        head = f'backbone.local_heads.{index}'
        context = 'backbone.autoregressor' if last else f'{head}.context'
        predictor = f'{head}.predictor.weight'
        rules += [
            (
                KEY.format(index, GRU),
                rf'{context}.\1_l0' if last or local_heads else None,
            ),
            (
                KEY.format(index, r'loss\.predictor\.weight'),
                predictor if local_heads else None,
            ),
            # Of supervised training, whose heads are others here.
            (KEY.format(index, r'loss\.linear_classifier\..+'), None),
        ]
    return convert_keys(weights, rules, 'Greedy InfoMax, audio')


def _numbers(keys: Iterable[str], pattern: str) -> list[tuple[int, ...]]:
    """What a pattern finds in keys: all its groups that are numbers."""
    found = [re.fullmatch(pattern, key) for key in keys]
    return sorted(
        {
            tuple(int(part) for part in match.groups() if part.isdigit())
            for match in found
            if match
        }
    )
