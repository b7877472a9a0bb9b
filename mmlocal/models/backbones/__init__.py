"""The wrapper that cuts a backbone, and backbones that no mm library has."""

from .cifar_densenet import CIFARDenseNet
from .cifar_resnet import CIFARResNet
from .local_supervised import LocalSupervisedBackbone

__all__ = ['CIFARDenseNet', 'CIFARResNet', 'LocalSupervisedBackbone']
