"""What a split costs, on fake tensors, with no GPU."""

from . import report
from .advice import config_lines, describe_floor, warnings_of
from .budget import parse_budget
from .planner import MAX_MODULES, Planner, Row
from .ranks import RankMemory, sharded_memory
from .simulator import Simulator
from .stages import StageMemory, stages_memory
from .step_report import StepReport
from .training_setting import TrainingSetting

__all__ = [
    'MAX_MODULES',
    'Planner',
    'RankMemory',
    'Row',
    'TrainingSetting',
    'Simulator',
    'StageMemory',
    'StepReport',
    'config_lines',
    'describe_floor',
    'parse_budget',
    'report',
    'sharded_memory',
    'stages_memory',
    'warnings_of',
]
