from .local_loss_hook import LocalLossHook
from .local_visualization_hook import LocalVisualizationHook

__all__ = ['LocalLossHook', 'LocalVisualizationHook']
