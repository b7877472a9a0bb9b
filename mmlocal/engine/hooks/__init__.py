from .local_checkpoint_hook import LocalCheckpointHook
from .local_loss_hook import LocalLossHook
from .local_visualization_hook import LocalVisualizationHook

__all__ = [
    'LocalCheckpointHook',
    'LocalLossHook',
    'LocalVisualizationHook',
]
