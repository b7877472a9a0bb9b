"""The wrapper that cuts a backbone, and backbones that no mm library has."""

from .cifar_convnet import CIFARConvNet
from .cifar_densenet import CIFARDenseNet
from .cifar_resnet import CIFARResNet
from .dni_convnet import DNIConvNet
from .forward_forward import FFMLP, FFConvNet
from .local_supervised import LocalSupervisedBackbone
from .sigprop_nets import SigPropConvNet, SigPropResNet, SigPropVGG

__all__ = [
    'CIFARConvNet',
    'CIFARDenseNet',
    'CIFARResNet',
    'DNIConvNet',
    'FFConvNet',
    'FFMLP',
    'LocalSupervisedBackbone',
    'SigPropConvNet',
    'SigPropResNet',
    'SigPropVGG',
]
