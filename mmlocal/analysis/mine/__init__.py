"""Mutual information by a network (MINE), of modules and in general."""

from .bounds import NWJ, DonskerVaradhan, InfoNCE
from .estimator import Estimate, estimate
from .measure import MutualInformation
from .setting import MineSetting
from .statistics_net import SeparableCritic, StatisticsNet

__all__ = [
    'DonskerVaradhan',
    'Estimate',
    'InfoNCE',
    'MineSetting',
    'MutualInformation',
    'NWJ',
    'SeparableCritic',
    'StatisticsNet',
    'estimate',
]
