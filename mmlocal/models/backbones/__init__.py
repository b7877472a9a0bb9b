"""The wrapper that cuts a backbone, and backbones that no mm library has.

Those that are made of one of a library that is not installed are left out.
"""

from importlib.util import find_spec

from mmlocal.utils import quiet_imports

from .cifar_convnet import CIFARConvNet
from .cifar_densenet import CIFARDenseNet
from .cifar_resnet import CIFARResNet
from .cifar_resnext import CIFARResNeXt
from .cifar_wide_resnet import CIFARWideResNet
from .dni_convnet import DNIConvNet
from .layerwise_vgg import LayerwiseVGG
from .local_supervised import LocalSupervisedBackbone

__all__ = [
    'CIFARConvNet',
    'CIFARDenseNet',
    'CIFARResNeXt',
    'CIFARResNet',
    'CIFARWideResNet',
    'DNIConvNet',
    'LayerwiseVGG',
    'LocalSupervisedBackbone',
]

if find_spec('mmpretrain'):
    with quiet_imports():
        from .layerwise_resnet import LayerwiseResNet

    __all__ += ['LayerwiseResNet']
