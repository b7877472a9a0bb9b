"""The configs of DGL's own experiments, against the authors' recipes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.fake_tensors import uninitialized_weights
from mmlocal.models.cut_points import CutPoints
from mmlocal.models.local_heads import Boundary
from mmlocal.partition.published import PUBLISHED_SPLITS

ROOT = Path(__file__).parents[1] / 'configs'
CIFAR = [
    'convnet4_cifar10_k4',
    'convnet6_cifar10_k6',
    'convnet6_cifar10_k6_cnn',
    'convnet6_cifar10_k6_mlp',
    'convnet6_cifar10_k3',
    'convnet6_cifar10_k2',
    'convnet6-buffer_cifar10_k6',
    'dni-convnet_cifar10_k3',
    pytest.param('resnet110_cifar10_300e_k2', marks=pytest.mark.slow),
]


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def build(name: str) -> nn.Module:
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', CIFAR)
def test_a_step_trains_every_parameter(name, helpers):
    """Seven experiments and two groupings; no head has a spare layer."""
    torch.manual_seed(0)
    model = build(f'dgl/{name}')
    wrapper = LocalOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        accumulative_counts=2,  # keeps the gradients
    )
    log = model.train_step(helpers.classification_batch(2), wrapper)
    assert all(value.isfinite().all() for value in log.values())
    missing = [k for k, p in model.named_parameters() if p.grad is None]
    assert missing == []
    heads = len(model.backbone.boundaries)
    assert sum('loss' in key for key in wrapper.step_log) == heads


@pytest.mark.parametrize(
    ('name', 'channels', 'hidden'),
    [
        ('convnet4_cifar10', 256, 2),
        ('convnet6_cifar10', 512, 2),
        ('convnet6-buffer_cifar10', 512, 3),
    ],
)
def test_classifier_of_the_last_module(name, channels, hidden):
    """`mlp` with so many hidden layers: pool 8x8 to 2x2, 4C units."""
    model = build(f'e2e/{name}').eval()
    (feat,) = model.backbone(torch.randn(2, 3, 32, 32))
    assert feat.shape == (2, channels, 8, 8)
    linears = [m for m in model.head.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in model.head.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(linears) == hidden + 1 and len(norms) == hidden
    width = 4 * channels
    shapes = [tuple(linear.weight.shape) for linear in linears]
    assert shapes == [(width, width)] * hidden + [(10, width)]
    x = nn.functional.avg_pool2d(feat, 4).flatten(1)
    for linear, norm in zip(linears, norms, strict=False):
        x = norm(linear(x)).relu()
    torch.testing.assert_close(model.head(model.neck((feat,))), linears[-1](x))


def test_groupings_of_the_auxiliary_study():
    """Blocks 2 or 3 at a time, each with the head of its last block."""
    for num_modules, names in (
        (3, ['features.2', 'features.4']),
        (2, ['features.3']),
    ):
        backbone = build(f'dgl/convnet6_cifar10_k{num_modules}').backbone
        assert backbone.boundaries == names


# Optimizer, rate, weight decay, milestones, factor, batch (of all GPUs),
# epochs: section 5 of the specification.
RECIPES = {
    'convnet4_cifar10_k4': ('SGD', 0.1, 5e-4, [15, 30, 45], 0.2, 128, 50),
    'convnet6_cifar10_k6': ('SGD', 0.1, 5e-4, [15, 30, 45], 0.2, 128, 50),
    'convnet6-buffer_cifar10_k6': (
        ('SGD', 0.1, 5e-4, [17, 32, 47], 0.2, 128, 51)
    ),
    'resnet110_cifar10_300e_k2': (
        ('SGD', 0.01, 5e-4, [150, 225], 0.1, 128, 300)
    ),
    'dni-convnet_cifar10_k3': ('Adam', 3e-5, None, None, None, 256, 1500),
    'vgg13_imagenet_k10': ('SGD', 0.1, 1e-4, [10, 20, 30, 40], 0.1, 256, 50),
    'vgg19_imagenet_k2': ('SGD', 0.1, 1e-4, [10, 20, 30, 40], 0.1, 256, 50),
    'resnet152_imagenet_50e_k2': (
        ('SGD', 0.1, 1e-4, [10, 20, 30, 40], 0.1, 256, 50)
    ),
}
# Those whose code makes a new optimizer at each drop of the rate.
RESET = [
    name
    for name in RECIPES
    if name.startswith(('convnet6-buffer', 'resnet', 'vgg'))
]


@pytest.mark.parametrize('name', RECIPES)
def test_recipes(name):
    kind, lr, decay, milestones, gamma, batch, epochs = RECIPES[name]
    cfg = load(f'dgl/{name}')
    optimizer = deepcopy(cfg.optim_wrapper.optimizer)
    expected = {'type': kind, 'lr': lr}
    if kind == 'SGD':
        expected |= {'momentum': 0.9, 'weight_decay': decay}
    assert optimizer == expected
    gpus = 8 if 'imagenet' in name else 1
    assert cfg.train_dataloader.batch_size * gpus == batch
    assert cfg.train_cfg.max_epochs == epochs
    if milestones is None:
        assert 'param_scheduler' not in cfg
    else:
        (scheduler,) = cfg.param_scheduler
        assert scheduler == {
            'type': 'MultiStepLR',
            'milestones': milestones,
            'gamma': gamma,
        }
    resets = {
        'type': 'mmlocal.ResetOptimizerStateHook',
        'milestones': milestones,
    }
    assert (resets in cfg.custom_hooks) == (name in RESET)


@pytest.mark.parametrize('name', CIFAR)
def test_cifar_images(name):
    cfg = load(f'dgl/{name}')
    for key, published in (
        ('mean', (0.4914, 0.4822, 0.4465)),
        ('std', (0.2023, 0.1994, 0.2010)),
    ):
        values = [value / 255 for value in cfg.data_preprocessor[key]]
        assert values == pytest.approx(published)
    crop, flip, _ = cfg.train_dataloader.dataset.pipeline
    assert crop == {'type': 'RandomCrop', 'crop_size': 32, 'padding': 4}
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)


# Contents of each module in convolutions: section 2.4.
VGG = {
    'vgg13-k10': [1] * 10,
    'vgg13-k4': [3, 3, 3, 1],
    'vgg19-k4': [4, 4, 4, 4],
    'vgg19-k2': [8, 8],
}
OUTPUTS = {
    'vgg13-k10': [(64, 224)] * 2
    + [(128, 112)] * 2
    + [(256, 56)] * 2
    + [(512, 28)] * 2
    + [(512, 14)],
    'vgg13-k4': [(128, 112), (256, 56), (512, 14)],
    'vgg19-k4': [(128, 112), (256, 56), (512, 28)],
    'vgg19-k2': [(256, 56)],
}


@pytest.mark.parametrize('split', VGG)
def test_modules_of_vgg(split):
    depth = int(split[3:5])
    init_default_scope('mmpretrain')
    vgg = {'type': 'VGG', 'depth': depth, 'norm_cfg': {'type': 'BN'}}
    with uninitialized_weights():
        net = MODELS.build({**vgg, '_scope_': 'mmpretrain'})
    points = CutPoints(net, (3, 224, 224))
    cuts = points.check(PUBLISHED_SPLITS[f'dgl/{split}'])
    ends = [0, *(cut.depth for cut in cuts), depth - 3]
    sizes = [b - a for a, b in zip(ends, ends[1:], strict=False)]
    assert sizes == VGG[split]
    outputs = [
        (cut.boundary.channels, 224 // cut.boundary.stride) for cut in cuts
    ]
    assert outputs == OUTPUTS[split]


@pytest.mark.slow
def test_modules_of_resnet152():
    """26 of 51 units; 18.6 M and 39.5 M parameters (section 2.5)."""
    init_default_scope('mmpretrain')
    cfg = load('e2e/resnet152_imagenet_50e').model.backbone
    with uninitialized_weights():
        resnet = MODELS.build({**cfg, '_scope_': 'mmpretrain'})
    (name,) = PUBLISHED_SPLITS['dgl/resnet152-k2']
    units = ['stem'] + [
        f'layer{stage}.{block}'
        for stage, blocks in enumerate((3, 8, 36, 3), 1)
        for block in range(blocks)
    ]
    assert len(units) == 51 and units.index(name) == 26
    (cut,) = CutPoints(resnet, (3, 224, 224)).check([name])
    assert (cut.boundary.channels, 224 // cut.boundary.stride) == (1024, 14)
    counts = [0, 0]
    behind = False
    for key, parameter in resnet.named_parameters():
        behind |= key.startswith(f'{name}.')
        counts[behind] += parameter.numel()
    assert [round(count / 1e6, 1) for count in counts] == [18.6, 39.5]


def test_heads_on_imagenet():
    """Every linear layer N(0, 0.01) in VGG's; the published side of 7."""
    backbone = load('dgl/resnet152_imagenet_50e_k2').model.backbone
    assert backbone.local_heads.side == 7
    cfg = load('dgl/vgg13_imagenet_k4').model.backbone.local_heads
    head = MODELS.build(
        cfg, default_args={'boundary': Boundary('features.4', 64, 2)}
    )
    head.init_weights()
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            assert layer.bias.abs().max() == 0
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        elif isinstance(layer, nn.Conv2d):
            std = (2 / layer.out_channels) ** 0.5  # 1x1, fan-out
            assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
