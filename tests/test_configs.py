"""Every shipped config, against the papers and against its twin."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope

from mmlocal.config_check import check_config
from mmlocal.models.cut_forward import cut_forward
from mmlocal.partition.published import PUBLISHED_SPLITS
from mmlocal.planner import Simulator, TrainingSetting

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(
    str(path.relative_to(ROOT).with_suffix(''))
    for folder in ('infopro', 'greedy', 'dgl', 'e2e')
    for path in (ROOT / folder).glob('*.py')
)
LOCAL = [name for name in NAMES if not name.startswith('e2e/')]
# All modules in each iteration; the others are in test_async_configs.py and
# test_sequential_configs.py.
AT_ONCE = [
    name
    for name in LOCAL
    if '_async' not in name and '_sequential' not in name
]


@cache
def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def twin(name: str) -> str:
    """The end-to-end config of a local one."""
    name = re.sub(r'_(lean|each-block)$', '', name.split('/')[1])
    return 'e2e/' + re.sub(r'_(balanced-)?k\d+(_\w+)?$', '', name)


def build_model(name: str, monkeypatch):
    """The model, without memory for its weights."""
    cfg = deepcopy(load(name))
    init_default_scope(cfg.default_scope)
    model = cfg.model
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    # mmpretrain's ResNet reads the numbers of a linspace.
    linspace = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', linspace)
    with torch.device('meta'):
        return MODELS.build(model)


@pytest.mark.parametrize('name', NAMES)
def test_nothing_is_mistyped(name):
    check_config(load(name))


@cache
def structure(name: str) -> tuple[str, frozenset[str]]:
    """Net and heads, and where they are cut."""
    backbone = load(name).model.backbone.to_dict()
    cuts = backbone.pop('boundaries', [])
    if isinstance(cuts, dict):
        cuts = PUBLISHED_SPLITS.get(cuts.get('name'), [str(cuts)])
    heads = backbone.pop('local_heads', {})
    values = ('recon_weight', 'task_weight', 'task')  # tested below
    heads = {k: v for k, v in heads.items() if k not in values}
    return f'{backbone} {heads}', frozenset(cuts)


def stands_for_itself(name: str) -> bool:
    """Whether no other config has the same model.

    One that cuts the same net there and at more places has the same modules,
    in parts; an end-to-end model is that of its local twin, see
    test_only_four_places_differ_from_end_to_end.
    """
    net, cuts = structure(name)
    return name in PARAMETERS or not (
        name in map(twin, AT_ONCE)
        or any(
            net == same and (cuts < more or (cuts == more and other < name))
            for other in NAMES
            for same, more in [structure(other)]
        )
    )


# Backbone, heads and auxiliary nets.
PARAMETERS = {
    'infopro/resnet32_cifar10_k16_contrast': 1_144_351,
    'infopro/resnet110_cifar10_k16_contrast': 2_408_159,
    'infopro/resnet110_cifar10_balanced-k4_contrast': 1_832_923,
    'infopro/resnet101_imagenet': 49_299_419,
    'infopro/resnet152_imagenet': 64_943_067,
    'infopro/resnext101-32x8d_imagenet': 93_541_595,
    'infopro/deeplabv3_r101_cityscapes': 92_007_268,
    'e2e/resnet110_cifar10': 1_730_714,
    # 123.64 M of it in the classifier.
    'e2e/vgg13_imagenet': 133_053_736,
}


def num_modules(name: str) -> int:
    """As the name says."""
    if name.endswith('_each-block'):
        return 9
    count = re.search(r'_(?:\w+-)?k(\d+)', name)
    return int(count[1]) if count else 2


# Which of them are built is seen in the configs, not read to collect tests.
FAMILIES = sorted({name.split('_')[0] for name in NAMES})


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.slow
def test_models_are_built(family, monkeypatch):
    for name in NAMES:
        if name.split('_')[0] == family and stands_for_itself(name):
            check_model(build_model(name, monkeypatch), name)


def check_model(model, name: str) -> None:
    total = sum(p.numel() for p in model.parameters())
    assert total == PARAMETERS.get(name, total), name
    if name.startswith('e2e/'):
        assert not hasattr(model.backbone, 'local_heads')
        return
    boundaries = model.backbone.boundaries
    assert len(boundaries) == num_modules(name) - 1
    heads = len(boundaries) + model.backbone.local_end
    assert len(model.backbone.local_heads) == heads
    check_isolation(model.backbone)


@pytest.mark.parametrize('name', LOCAL)
def test_as_many_modules_as_the_name_says(name):
    """Where a rule cuts, as many as the one has that is built."""
    split = load(name).model.backbone.boundaries
    if isinstance(split, dict) and 'name' not in split:
        alike = [n for n in NAMES if structure(n) == structure(name)]
        (built,) = filter(stands_for_itself, alike)
        assert num_modules(name) == num_modules(built)
    else:
        assert len(structure(name)[1]) == num_modules(name) - 1


@pytest.mark.parametrize(
    ('name', 'first', 'total'),
    [
        pytest.param(
            *('infopro/resnet101_imagenet', 73, 342), marks=pytest.mark.slow
        ),
        ('infopro/deeplabv3_r101_cityscapes', 218, 363),
    ],
)
def test_tensors_that_the_first_loss_trains(name, first, total, monkeypatch):
    """As many as have a gradient after the first backward of the code that
    the authors of InfoPro published."""
    model = build_model(name, monkeypatch)
    (head,) = model.backbone.local_heads
    trained = check_isolation(model.backbone)[0]
    assert len(trained) + len(list(head.parameters())) == first
    assert len(list(model.parameters())) == total


def check_isolation(backbone):
    """No parameter is behind the outputs of two modules."""
    features = []

    def cut(index, feat):
        features.append(feat)
        return feat.detach()

    backbone.eval()
    cuts = [backbone.crossings[name] for name in backbone.boundaries]
    images = torch.zeros(2, 3, 224, 224, device='meta')
    features += cut_forward(backbone.backbone, cuts, (images,), cut)[-1:]
    owners = [parameters_behind(feature) for feature in features]
    assert len(owners) == len(backbone.boundaries) + 1 and all(owners)
    assert len(set.union(*owners)) == sum(map(len, owners))
    return owners


def parameters_behind(feature):
    """Ids of the parameters that the feature's gradient would reach."""
    found, seen, stack = set(), set(), [feature.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, 'variable'):
            found.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return found


@pytest.mark.parametrize('name', AT_ONCE)
def test_only_four_places_differ_from_end_to_end(name):
    local, plain = load(name).to_dict(), load(twin(name)).to_dict()
    for cfg in local, plain:
        cfg['optim_wrapper'].pop('type')
    wrapper = local['model'].pop('backbone')
    assert wrapper['type'] == 'mmlocal.LocalSupervisedBackbone'
    assert wrapper['backbone'] == plain['model'].pop('backbone')
    wrapper = {'type': 'mmlocal.LocalDistributedDataParallel'}
    if name == 'greedy/vit-large-p16_imagenet_k4':
        wrapper = {'type': 'mmlocal.LocalFSDP', 'param_dtype': 'bf16'}
    assert local.pop('model_wrapper_cfg') == wrapper
    # Nothing where there is one process, or no local training.
    assert {'model_wrapper_cfg', 'find_unused_parameters'}.isdisjoint(plain)
    hooks = local.pop('custom_hooks')
    assert {'type': 'mmlocal.LocalLossHook'} in hooks
    for hook in plain.pop('custom_hooks', []):
        assert hook in hooks
    for cfg in local, plain:
        cfg.pop('crop_size', None)  # a helper variable
    if name == 'dgl/dni-convnet_cifar10_k3':
        # The rate is constant, and the authors stopped earlier.
        assert local.pop('train_cfg')['max_epochs'] == 1500
        assert plain.pop('train_cfg')['max_epochs'] == 2000
    if name.endswith('_lean'):
        for key in 'decode_head', 'auxiliary_head':
            if head := local['model'].get(key):
                head['type'] = head['type'].removeprefix('mmlocal.Imagewise')
    assert local == plain


@pytest.mark.parametrize('name', LOCAL)
def test_local_optim_wrapper_and_classes(name):
    cfg = load(name)
    assert cfg.optim_wrapper.type.startswith('mmlocal.Local')
    own = cfg.model.get('decode_head') or cfg.model.head
    heads = cfg.model.backbone.local_heads
    if heads.type == 'mmlocal.DNIHead' and not heads.get('context'):
        assert 'num_classes' not in heads
    else:
        assert heads.num_classes == own.num_classes


# (lambda1, lambda2) of the first boundary -> of the last: the paper's code.
WEIGHTS = {
    'resnet32_cifar10_k2': (5, 1),
    'resnet32_cifar10_k4': (6, 0, 1, 2),
    'resnet32_cifar10_k8': (5, 0, 0, 2),
    'resnet32_cifar10_k16': (5, 0.05, 0.2, 0.5),
    'resnet110_cifar10_k2': (5, 0.5),
    'resnet110_cifar10_k4': (1, 0, 0, 1),
    'resnet110_cifar10_k8': (5, 0, 0, 1),
    'resnet110_cifar10_k16': (5, 0, 0.5, 1),
    'resnet110_cifar10_balanced-k2': (5, 0.1),
    'resnet110_cifar10_balanced-k3': (5, 0, 5, 0.1),
    'resnet110_cifar10_balanced-k4': (5, 0, 5, 0.1),
    'resnet110_stl10_k2': (10, 1),
    'resnet110_stl10_k4': (20, 0.2, 5, 2),
    'resnet110_stl10_k8': (20, 0.2, 5, 1),
    'resnet110_stl10_k16': (20, 0.5, 10, 0.1),
    'resnet110_stl10_balanced-k2': (20, 1),
    'resnet110_stl10_balanced-k3': (20, 0.5, 5, 2),
    'resnet110_stl10_balanced-k4': (20, 0.5, 10, 1),
    'resnet110_svhn_k2': (1, 0.1),
    'resnet110_svhn_k4': (5, 0, 0.5, 1),
    'resnet110_svhn_k8': (5, 0, 0.5, 2),
    'resnet110_svhn_k16': (5, 0.2, 0.5, 1),
}


@pytest.mark.parametrize('task', ['contrast', 'softmax'])
@pytest.mark.parametrize('name', WEIGHTS)
def test_cifar_weights_and_splits(name, task):
    backbone = load(f'infopro/{name}_{task}').model.backbone
    heads = backbone.local_heads
    recon, label, *last = WEIGHTS[name]
    if last:
        recon, label = (recon, last[0]), (label, last[1])
    assert (heads.recon_weight, heads.task_weight) == (recon, label)
    assert (heads.task, heads.preset) == (task, 'cifar')
    net, data, split = name.split('_')
    balanced = f'{net}-{data}-{split}'
    expected = balanced if 'balanced' in split else f'{net}-{split}'
    assert backbone.boundaries.name == f'infopro/{expected}'


@pytest.mark.parametrize(
    ('name', 'crop', 'batch', 'lr', 'recon', 'task'),
    [
        ('deeplabv3_r101_cityscapes', (512, 1024), 2, 0.01, 1.5, 1),
        ('deeplabv3_r101_cityscapes_bs12', (512, 1024), 3, 0.015, 1, 0.1),
        ('deeplabv3_r101_cityscapes-640x1280', (640, 1280), 2, 0.015, 2, 1),
    ],
)
def test_cityscapes_settings(name, crop, batch, lr, recon, task):
    cfg = load(f'infopro/{name}')
    heads = cfg.model.backbone.local_heads
    pipeline = cfg.train_dataloader.dataset.pipeline
    crops = [t.crop_size for t in pipeline if t.type == 'RandomCrop']
    assert (heads.recon_weight, heads.task_weight) == (recon, task)
    assert crops == [crop]
    assert cfg.model.data_preprocessor.size == crop
    assert cfg.train_dataloader.batch_size == batch  # on each of 4 GPUs
    assert cfg.optim_wrapper.optimizer.lr == lr


@pytest.mark.slow
def test_a_fifth_of_the_memory_of_end_to_end():
    """And K=2 with the lean head costs less than 2 % of the compute."""
    reports = [
        simulator.measure(simulator.own_split)
        for simulator in (
            Simulator(TrainingSetting(load(name), 4))
            for name in (
                'e2e/deeplabv3_r101_cityscapes',
                'infopro/deeplabv3_r101_cityscapes_lean',
                'infopro/deeplabv3_r101_cityscapes_k4_lean',
            )
        )
    ]
    whole, two, four = reports
    assert two.total_flops < 1.02 * whole.total_flops
    assert four.peak < 0.195 * whole.peak


@pytest.mark.parametrize('name', NAMES)
def test_pipelines_and_preprocessors_are_built(name):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    for loader in 'train_dataloader', 'val_dataloader', 'test_dataloader':
        Compose(cfg[loader].dataset.pipeline)
    assert cfg.model.get('_scope_') == cfg.default_scope


def test_cifar_crops_from_a_reflected_border():
    cfg = load('e2e/resnet32_cifar10')
    init_default_scope('mmpretrain')
    pad = Compose(cfg.train_dataloader.dataset.pipeline[:1])
    image = torch.arange(32 * 32 * 3).reshape(32, 32, 3).byte().numpy()
    padded = pad({'img': image})['img']
    border = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.pad(border, (4,) * 4, mode='reflect')
    assert padded.shape == (40, 40, 3)
    assert (padded == expected[0].permute(1, 2, 0).byte().numpy()).all()
