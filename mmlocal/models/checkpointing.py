"""Activation checkpointing that BatchNorm does not notice."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def update_statistics_once(backbone: nn.Module) -> None:
    """Keep recomputed forwards out of BatchNorm's running statistics.

    A checkpointed block (``with_cp=True``) runs a second time during
    backward, and would move its running statistics twice a step. Layers that
    are covered already are left alone, so that this may be called before each
    forward: SyncBN conversion replaces layers.

    Args:
        backbone (nn.Module): The network that holds such blocks.
    """
    for block in backbone.modules():
        if not getattr(block, 'with_cp', False):
            continue
        for layer in block.modules():
            if isinstance(layer, _BatchNorm) and not _is_covered(layer):
                layer.register_forward_pre_hook(_hold_statistics)
                layer.register_forward_hook(_release_statistics)


def _is_covered(layer: nn.Module) -> bool:
    return _hold_statistics in layer._forward_pre_hooks.values()


def _is_recomputed() -> bool:
    """Whether this runs inside of a backward pass."""
    return torch._C._current_graph_task_id() != -1


def _hold_statistics(layer: nn.Module, args: tuple) -> None:
    # Without tracking a layer in training normalizes alike and updates
    # nothing.
    if layer.track_running_stats and _is_recomputed():
        layer.track_running_stats = False


def _release_statistics(layer: nn.Module, args: tuple, output) -> None:
    if layer.running_mean is not None:
        layer.track_running_stats = True
