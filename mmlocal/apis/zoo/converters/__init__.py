"""From the keys of other code to those of mmseg and mmpretrain."""

from .gim import convert_gim
from .gim_audio import convert_gim_audio
from .infopro import convert_cifar, convert_cityscapes, convert_imagenet
from .keys import Converted, convert_keys
from .resnets import convert_timm, convert_torchvision

__all__ = [
    'Converted',
    'convert_cifar',
    'convert_cityscapes',
    'convert_gim',
    'convert_gim_audio',
    'convert_imagenet',
    'convert_keys',
    'convert_timm',
    'convert_torchvision',
]
