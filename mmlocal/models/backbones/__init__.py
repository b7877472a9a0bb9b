"""The wrapper that cuts a backbone, and backbones that no mm library has.

:class:`.layerwise_resnet.LayerwiseResNet` extends one of mmpretrain, and is
imported when it is asked for.
"""

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
