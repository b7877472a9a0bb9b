"""What a split costs, on fake tensors, with no GPU."""

from . import report
from .planner import (
    MAX_MODULES,
    Planner,
    Row,
    config_lines,
    describe_floor,
    parse_budget,
    warnings_of,
)
from .setting import Setting
from .simulator import Simulator, StepReport

__all__ = [
    'MAX_MODULES',
    'Planner',
    'Row',
    'Setting',
    'Simulator',
    'StepReport',
    'config_lines',
    'describe_floor',
    'parse_budget',
    'report',
    'warnings_of',
]
