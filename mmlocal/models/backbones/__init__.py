"""The wrapper that cuts a backbone, and backbones that no mm library has.

:class:`~.layerwise_resnet.LayerwiseResNet`, which extends one of mmpretrain,
is imported when a config names it.
"""

from .cifar_convnet import CIFARConvNet
from .cifar_densenet import CIFARDenseNet
from .cifar_resnet import CIFARResNet
from .cifar_resnext import CIFARResNeXt
from .cifar_wide_resnet import CIFARWideResNet
from .cpc_audio import CPCAudioEncoder
from .dni_convnet import DNIConvNet
from .forward_forward import FFMLP, FFConvNet
from .layerwise_vgg import LayerwiseVGG
from .local_supervised import LocalSupervisedBackbone
from .patch_backbone import PatchBackbone
from .preact_resnet import PreActResNet
from .sigprop_nets import SigPropConvNet, SigPropResNet, SigPropVGG

__all__ = [
    'CIFARConvNet',
    'CIFARDenseNet',
    'CIFARResNeXt',
    'CIFARResNet',
    'CIFARWideResNet',
    'CPCAudioEncoder',
    'DNIConvNet',
    'LayerwiseVGG',
    'FFConvNet',
    'FFMLP',
    'LocalSupervisedBackbone',
    'PatchBackbone',
    'PreActResNet',
    'SigPropConvNet',
    'SigPropResNet',
    'SigPropVGG',
]
