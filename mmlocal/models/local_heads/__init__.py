"""What trains a module of a cut network: one file a method."""

from .base import Boundary, LocalHead
from .dgl import DGLHead
from .greedy import GreedyHead
from .infopro import InfoProHead
from .task import TaskHead

__all__ = [
    'Boundary',
    'DGLHead',
    'GreedyHead',
    'InfoProHead',
    'LocalHead',
    'TaskHead',
]
