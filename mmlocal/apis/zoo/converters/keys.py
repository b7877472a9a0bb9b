"""Rename the keys of a checkpoint, and account for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

# A pattern that the whole key matches, and the new key; None: left out.
Rule = tuple[str, str | None]


@dataclass
class Converted:
    """Weights under their new keys.

    Args:
        state_dict (dict[str, Tensor]): What was mapped.
        dropped (list[str]): Old keys of what was left out.
        meta (dict): For the checkpoint: ``dataset_meta``.
    """

    state_dict: dict[str, Tensor]
    dropped: list[str]
    meta: dict = field(default_factory=dict)

    def summary(self) -> str:
        """What became of the keys, in a line."""
        prefixes = sorted({re.split(r'[._\d]', k)[0] for k in self.dropped})
        dropped = f' ({", ".join(prefixes)})' if prefixes else ''
        total = len(self.state_dict) + len(self.dropped)
        return (
            f'{total} keys: {len(self.state_dict)} mapped, '
            f'{len(self.dropped)} dropped{dropped}'
        )


def convert_keys(
    weights: Mapping[str, Tensor], rules: Sequence[Rule], source: str
) -> Converted:
    r"""Apply the first rule that matches to every key.

    Args:
        weights (Mapping[str, Tensor]): The weights.
        rules (Sequence[tuple]): (pattern, new key), with ``\1`` and so on
            for the groups; the new key None leaves the tensor out.
        source (str): Whose naming this is, for the message.

    Raises:
        ValueError: If no rule is for a key, two keys become one, or nothing
            is left.
    """
    result = Converted({}, [])
    unknown = []
    for key, value in weights.items():
        match, target = _first_match(key, rules)
        if match is None:
            unknown.append(key)
            continue
        if target is None:
            result.dropped.append(key)
            continue
        new = match.expand(target)
        if new in result.state_dict:
            raise ValueError(f'two keys of the checkpoint become {new}')
        result.state_dict[new] = value
    if unknown or not result.state_dict:
        shown = ', '.join(unknown[:5]) + (', ...' if unknown[5:] else '')
        raise ValueError(
            f'this is no checkpoint of {source}: of its {len(weights)} keys '
            f'{len(unknown)} are unknown ({shown})'
        )
    return result


def _first_match(
    key: str, rules: Sequence[Rule]
) -> tuple[re.Match | None, str | None]:
    for pattern, target in rules:
        if match := re.fullmatch(pattern, key):
            return match, target
    return None, None
