from .ctc_stage_hook import CTCStageHook
from .local_checkpoint_hook import LocalCheckpointHook
from .local_loss_hook import LocalLossHook
from .local_visualization_hook import LocalVisualizationHook
from .reset_optimizer_state_hook import ResetOptimizerStateHook

__all__ = [
    'CTCStageHook',
    'LocalCheckpointHook',
    'LocalLossHook',
    'LocalVisualizationHook',
    'ResetOptimizerStateHook',
]
