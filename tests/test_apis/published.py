"""Files as the authors of InfoPro released them, with random weights."""

from __future__ import annotations

import io
from collections import OrderedDict

import torch
import torchvision
from mmengine.config import Config
from torch import Tensor, nn


def imagenet_file(net: str) -> tuple[dict[str, Tensor], nn.Module]:
    """The state dict of a released classifier, and torchvision's model."""
    model = randomize(getattr(torchvision.models, net)())
    weights = dict(model.state_dict())
    weights |= with_prefix('decoder.decoder.', decoder(512))
    weights |= with_prefix('head.', task_net())
    return weights, model.eval()


def cityscapes_file(cfg: Config) -> tuple[dict, nn.Module]:
    """A released checkpoint of mmcv, and mmseg's model of a plain config."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    cfg.model.pretrained = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    model = randomize(revert_sync_batchnorm(model))
    weights = OrderedDict(model.state_dict())
    task = nn.Sequential(
        nn.Conv2d(1024, 512, 3, padding=1),
        nn.BatchNorm2d(512),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(512, 19, 1),
    )
    weights |= with_prefix('head_inter.', task)
    weights |= with_prefix('decoder_inter.', decoder(1024))
    checkpoint = {
        'meta': {
            'mmcv_version': '1.2.7',
            'CLASSES': tuple(f'class {i}' for i in range(19)),
            'PALETTE': [[i, 2 * i, 3 * i] for i in range(19)],
        },
        'state_dict': weights,
        'optimizer': {'state': {}, 'param_groups': [{'lr': 0.01}]},
    }
    return checkpoint, model.eval()


def decoder(channels: int) -> nn.Sequential:
    """InfoPro's decoder for stride 8."""
    layers: list[nn.Module] = []
    for width, kernel in (128, 1), (32, 3), (12, 3):
        layers += [
            nn.Conv2d(channels, width, kernel, padding=kernel // 2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True),
        ]
        channels = width
    last = nn.Conv2d(12, 3, 3, padding=1)
    return randomize(nn.Sequential(*layers, last, nn.Sigmoid()))


def task_net() -> nn.Sequential:
    """InfoPro's auxiliary head on ImageNet."""
    layers: list[nn.Module] = []
    channels = 512
    for width, kernel, stride in (
        (128, 1, 1),
        (256, 3, 2),
        (512, 3, 2),
        (2048, 1, 1),
    ):
        layers += [
            nn.Conv2d(
                channels, width, kernel, stride, kernel // 2, bias=False
            ),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
    return randomize(nn.Sequential(*layers, *pool))


def cifar_file(depth: int, cuts: list[tuple[int, int]]) -> dict:
    """The checkpoint of a training of the CIFAR code, 1c2f and contrast."""
    import mmlocal.models  # noqa: F401
    from mmlocal.models.backbones import CIFARResNet

    model = CIFARResNet(depth)
    weights = dict(model.state_dict())
    weights |= with_prefix('fc.', nn.Linear(64, 10))
    for stage, block in cuts:
        channels = 16 * 2 ** (stage - 1)
        width, stride = (2 * channels, 2) if stage < 3 else (channels, 1)
        decode = nn.Sequential(
            nn.Conv2d(channels, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 3, 3, padding=1),
        )
        task = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
        )
        name = f'{stage}_{block}'
        weights |= with_prefix(f'decoder_{name}.decoder.', decode)
        weights |= with_prefix(f'aux_classifier_{name}.head.', task)
    weights = {f'module.{key}': value for key, value in weights.items()}
    return {
        'epoch': 160,
        'state_dict': weights,
        'best_acc': 92.0,
        'optimizer': {'state': {}, 'param_groups': []},
        'val_acc': [91.0, 92.0],
    }


def with_prefix(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in module.state_dict().items()}


def randomize(model: nn.Module) -> nn.Module:
    """Statistics of BatchNorm that a swap would not survive."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.0)
                module.bias.normal_(0, 0.1)
    return model


def to_bytes(checkpoint: dict) -> bytes:
    stream = io.BytesIO()
    torch.save(checkpoint, stream)
    return stream.getvalue()
