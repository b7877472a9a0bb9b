"""Data sets, each in the conventions of the library that trains on it.

Those of a library that is not installed are left out.
"""

from importlib.util import find_spec

from mmlocal.datasets.files import check_data_folders, require_files
from mmlocal.datasets.shapes import Recipe, ShapesBackend, draw_scene
from mmlocal.utils import quiet_imports

__all__ = [
    'Recipe',
    'ShapesBackend',
    'check_data_folders',
    'draw_scene',
    'require_files',
]

with quiet_imports():
    if find_spec('mmseg'):
        from mmlocal.datasets.camvid import CamVidDataset
        from mmlocal.datasets.shapes_seg import ShapesSeg

        __all__ += ['CamVidDataset', 'ShapesSeg']
    if find_spec('mmpretrain'):
        from mmlocal.datasets.audio_transforms import (
            CropAudio,
            LoadAudio,
            PackAudio,
        )
        from mmlocal.datasets.cifar10 import CIFAR10
        from mmlocal.datasets.cifar100 import CIFAR100
        from mmlocal.datasets.cinic10 import CINIC10
        from mmlocal.datasets.digits import Digits
        from mmlocal.datasets.formant_speech import FormantSpeech
        from mmlocal.datasets.librispeech import LibriSpeech
        from mmlocal.datasets.shapes_cls import ShapesCls
        from mmlocal.datasets.stl10 import STL10
        from mmlocal.datasets.svhn import SVHN

        __all__ += [
            'CIFAR10',
            'CIFAR100',
            'CINIC10',
            'CropAudio',
            'Digits',
            'FormantSpeech',
            'LibriSpeech',
            'LoadAudio',
            'PackAudio',
            'STL10',
            'SVHN',
            'ShapesCls',
        ]
