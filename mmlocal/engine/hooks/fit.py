"""Whether a checkpoint belongs to the model and the optimizer of a run."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocal.step import unwrap

BOUNDARIES = 'mmlocal_boundaries'


def check_fit(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """See that a checkpoint brings weights for the model.

    Those that are missing are counted in a warning: they keep their initial
    values. Local heads may be missing, as in a checkpoint of a plain model.

    Args:
        runner (Runner): Has the model, before anything is loaded.
        checkpoint (Mapping): What was read from the file.

    Raises:
        ValueError: If not one weight fits, so that the model would be left
            as it was initialized.
    """
    there = _plain(checkpoint.get('state_dict', checkpoint))
    own = {
        key: value
        for key, value in _plain(unwrap(runner.model).state_dict()).items()
        if 'local_heads' not in key.split('.')
    }
    missing = [
        key
        for key, value in own.items()
        if key not in there or there[key].shape != value.shape
    ]
    source = runner._load_from or 'the checkpoint'
    if len(missing) == len(own):
        raise ValueError(
            f'{source}: none of its {len(there)} tensors ({_some(there)}) '
            f'fits the model ({_some(own)}), which would keep its random '
            'weights. Give a checkpoint that was trained with this config; '
            'weights of a backbone alone belong into '
            "model.backbone.init_cfg=dict(type='Pretrained', "
            'checkpoint=FILE).'
        )
    if missing:
        print_log(
            f'{source} has no weights for {len(missing)} of the {len(own)} '
            f'tensors of the model, which KEEP THEIR INITIAL VALUES: '
            f'{_some(missing)}',
            logger='current',
            level=logging.WARNING,
        )


def record_boundaries(model: nn.Module | None, checkpoint: dict) -> None:
    """Put where the backbone is cut into the checkpoint."""
    cuts = [] if model is None else list(model.boundaries)
    checkpoint['meta'][BOUNDARIES] = cuts


def check_boundaries(
    backbone: nn.Module | None, checkpoint: Mapping[str, Any]
) -> None:
    """See that a run is resumed in the modules that it was trained in.

    Args:
        backbone (nn.Module, optional): The LocalSupervisedBackbone.
        checkpoint (Mapping): What was read from the file.

    Raises:
        ValueError: If the modules differ; says how.
    """
    now = [] if backbone is None else list(backbone.boundaries)
    before = checkpoint.get('meta', {}).get(BOUNDARIES)
    if before is None:  # of an earlier version
        if _heads(checkpoint) == len(now):
            return
        text = f'{_heads(checkpoint) + 1} modules'
    elif list(before) == now:
        return
    else:
        text = f'{len(before) + 1} modules (boundaries={before})'
    raise ValueError(
        f'resume: the checkpoint is of a run in {text}, and this config has '
        f'{len(now) + 1} (boundaries={now}). Local heads and the state of '
        'the optimizer belong to the modules: set '
        'model.backbone.boundaries as they were, or start anew from the '
        'weights with load_from=FILE and resume=False.'
    )


def check_optimizer(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """See that the optimizer has the parameters that it had.

    Raises:
        ValueError: If their number or their groups differ; says how.
    """
    wrapper = runner.optim_wrapper
    saved = checkpoint.get('optimizer', {}).get('param_groups')
    # A test of a config with resume=True builds no optimizer.
    if saved is None or not isinstance(wrapper, OptimWrapper):
        return
    before = [len(group['params']) for group in saved]
    # Not the wrapper's, which has one more, of base settings.
    groups = wrapper.optimizer.param_groups
    now = [len(group['params']) for group in groups]
    if before == now:
        return
    raise ValueError(
        f'resume: the optimizer of the checkpoint has {_groups(before)}, and '
        f'that of this config {_groups(now)}: local heads, frozen stages or '
        'optim_wrapper.paramwise_cfg are not as they were. Set them so, or '
        'start anew from the weights with load_from=FILE and resume=False.'
    )


def _plain(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Without the prefix of DDP and of test-time augmentation."""
    return {
        re.sub(r'^module\.', '', key): value
        for key, value in weights.items()
        if isinstance(value, Tensor)
    }


def _heads(checkpoint: Mapping[str, Any]) -> int:
    found = re.findall(
        r'(?:^|\.)local_heads\.(\d+)\.',
        '\n'.join(checkpoint.get('state_dict', {})),
        re.M,
    )
    return max(map(int, found), default=-1) + 1


def _groups(sizes: list[int]) -> str:
    if len(sizes) == 1:
        return f'{sizes[0]} parameters'
    return f'{sum(sizes)} parameters in {len(sizes)} groups'


def _some(names: Any) -> str:
    names = list(names)
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
