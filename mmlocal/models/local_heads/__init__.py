"""What trains a module of a cut network: one file a method."""

from .base import Boundary, LocalHead
from .dgl import DGLHead
from .dni import DNIHead
from .forward_forward import FFHead
from .greedy import GreedyHead
from .infopro import InfoProHead
from .layerwise import LayerwiseHead
from .patch_info_nce import PatchInfoNCEHead
from .pixel_cnn import GatedPixelCNN
from .sequence_info_nce import SequenceInfoNCEHead
from .sigprop import SigPropHead
from .task import TaskHead

__all__ = [
    'Boundary',
    'DGLHead',
    'DNIHead',
    'FFHead',
    'GatedPixelCNN',
    'GreedyHead',
    'InfoProHead',
    'LayerwiseHead',
    'LocalHead',
    'PatchInfoNCEHead',
    'SequenceInfoNCEHead',
    'SigPropHead',
    'TaskHead',
]
