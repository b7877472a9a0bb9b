"""Every key of other code is mapped, dropped or an error."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.registry import MODELS, init_default_scope

import mmlocal
from mmlocal.apis.zoo.converters import (
    convert_cifar,
    convert_cityscapes,
    convert_gim,
    convert_imagenet,
    convert_timm,
    convert_torchvision,
)

spec = importlib.util.spec_from_file_location(
    'published', Path(__file__).parents[1] / 'published.py'
)
published = importlib.util.module_from_spec(spec)
spec.loader.exec_module(published)
ROOT = Path(__file__).parents[3]


def classifier(backbone: dict, channels: int = 2048):
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', num_classes=1000, in_channels=channels
            ),
        )
    ).eval()


def test_torchvision_resnet_gives_its_logits():
    reference = published.randomize(torchvision.models.resnet18()).eval()
    result = convert_torchvision(reference.state_dict())
    model = classifier(dict(type='ResNet', depth=18), 512)
    model.load_state_dict(result.state_dict)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits = model(images, mode='tensor')
        assert torch.equal(logits, reference(images))
    backbone = convert_torchvision(reference.state_dict(), classifier=False)
    assert backbone.dropped == ['fc.weight', 'fc.bias']
    assert result.summary() == '122 keys: 122 mapped, 0 dropped'
    assert backbone.summary() == '122 keys: 120 mapped, 2 dropped (fc)'


# timm: conv1 holds the stem but for its last norm, which is bn1.
STEMS = {
    'mmpretrain': ['0.conv', '0.bn', '1.conv', '1.bn', '2.conv', '2.bn'],
    'mmseg': ['0', '1', '3', '4', '6', '7'],
    'timm': ['conv1.0', 'conv1.1', 'conv1.3', 'conv1.4', 'conv1.6', 'bn1'],
}


@pytest.mark.parametrize('library', ['mmpretrain', 'mmseg'])
@pytest.mark.parametrize('kind', ['ResNet', 'ResNetV1c', 'ResNetV1d'])
def test_timm_resnets(kind, library):
    init_default_scope(library)
    backbone = MODELS.build(dict(type=f'{library}.{kind}', depth=50))
    expected = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    theirs = {'fc.weight': torch.ones(1), 'fc.bias': torch.ones(1)}
    for key, value in expected.items():
        key = key.removeprefix('backbone.')
        for old, new in zip(STEMS[library], STEMS['timm'], strict=True):
            key = re.sub(rf'stem\.{old}\.', f'{new}.', key)
        if (kind, library) == ('ResNetV1d', 'mmpretrain'):
            # The place of a pooling that there is not.
            first = r'(layer1\.0\.downsample)\.'
            key = re.sub(f'{first}1', r'\1.2', key)
            key = re.sub(f'{first}0', r'\1.1', key)
        theirs[key] = value
    assert ('conv1.6.weight' in theirs) == (kind != 'ResNet')
    result = convert_timm(theirs, classifier=library == 'mmpretrain')
    for key, value in expected.items():
        assert result.state_dict.pop(key) is value
    left = {'head.fc.weight', 'head.fc.bias'}
    assert set(result.state_dict) == (left if not result.dropped else set())
    with pytest.raises(ValueError, match='se.fc1.weight'):
        convert_timm({**theirs, 'layer1.0.se.fc1.weight': torch.ones(1)})


def test_unknown_and_foreign_keys_are_errors():
    weights = {'conv1.weight': torch.ones(1), 'extra.weight': torch.ones(1)}
    for convert in convert_imagenet, convert_torchvision, convert_cityscapes:
        with pytest.raises(ValueError, match='extra.weight'):
            convert(weights)
    only_dropped = {'decoder.decoder.0.weight': torch.ones(1)}
    with pytest.raises(ValueError, match='no checkpoint of InfoPro'):
        convert_imagenet(only_dropped)


def test_prefix_and_optimizer_of_a_training_checkpoint():
    weights, _ = {'conv1.weight': torch.ones(1)}, None
    checkpoint = {
        'epoch': 90,
        'state_dict': {f'module.{k}': v for k, v in weights.items()},
        'optimizer': {},
    }
    result = convert_imagenet(checkpoint)
    assert list(result.state_dict) == ['backbone.conv1.weight']


@pytest.mark.parametrize(
    ('depth', 'cuts', 'name'),
    [
        (32, [(1, 2), (2, 1), (3, 0)], 'infopro_resnet32_cifar10_k4_contrast'),
        (110, [(2, 8)], 'infopro_resnet110_cifar10_k2_contrast'),
    ],
)
def test_cifar_training_checkpoint(depth, cuts, name):
    checkpoint = published.cifar_file(depth, cuts)
    plain = {32: 200, 110: 668}[depth]
    assert len(checkpoint['state_dict']) == plain + 19 * len(cuts)
    for keep in False, True:
        result = convert_cifar(checkpoint, local_heads=keep)
        model = mmlocal.get_model(name, False, 'cpu', local_heads=keep)
        model.load_state_dict(result.state_dict)
        assert len(result.dropped) == (0 if keep else 19 * len(cuts))


def test_order_of_cifar_blocks_is_that_of_the_network():
    checkpoint = published.cifar_file(110, [(1, 4), (1, 11), (2, 0)])
    result = convert_cifar(checkpoint, local_heads=True)
    old = checkpoint['state_dict']
    for index, block in enumerate(('1_4', '1_11', '2_0')):
        new = result.state_dict[
            f'backbone.local_heads.{index}.decoder.decoder.0.weight'
        ]
        assert new is old[f'module.decoder_{block}.decoder.0.weight']


def gim_module(index: int) -> dict[str, torch.Tensor]:
    """The keys of a module of the vision encoder: blocks of 3, 4, 6."""
    names = ['Conv1'] if index == 0 else []
    for block in range((3, 4, 6)[index]):
        convs = (1, 2, 3)
        names += [f'layer 0.{block}.conv{i}' for i in convs]
    names.append('layer 0.0.shortcut.0')
    keys = [f'model.{n}.{kind}' for n in names for kind in ('weight', 'bias')]
    keys += [f'loss.W_k.{k}.weight' for k in range(5)]
    return {key: torch.rand(1) for key in keys}


def test_greedy_infomax():
    files = [gim_module(index) for index in range(3)]
    assert [len(file) for file in files] == [27, 31, 43]
    plain = convert_gim(files)
    full = convert_gim(files, local_heads=True)
    assert (len(plain.state_dict), len(plain.dropped)) == (86, 15)
    assert (len(full.state_dict), len(full.dropped)) == (101, 0)
    weights = full.state_dict
    for key, index, old in (
        ('stem.conv.bias', 0, 'model.Conv1.bias'),
        ('stages.2.5.conv1.weight', 2, 'model.layer 0.5.conv1.weight'),
        ('stages.1.0.downsample.bias', 1, 'model.layer 0.0.shortcut.0.bias'),
        ('local_heads.1.predictors.4.weight', 1, 'loss.W_k.4.weight'),
    ):
        assert weights[f'backbone.{key}'] is files[index][old]
    with pytest.raises(ValueError, match='module 1.*model.Conv1'):
        convert_gim([files[0], files[0]])


@pytest.mark.parametrize('tool', ['infopro', 'resnet'])
def test_tools(tool, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(
        tool, ROOT / f'tools/model_converters/{tool}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source, out = tmp_path / 'in.pth', tmp_path / 'out.pth'
    torch.save({'conv1.weight': torch.ones(1)}, source)
    kind = {'infopro': 'imagenet', 'resnet': 'torchvision'}[tool]
    module.main([kind, str(source), str(out)])
    assert '1 keys: 1 mapped, 0 dropped' in capsys.readouterr().out
    loaded = torch.load(out, weights_only=True)
    assert list(loaded['state_dict']) == ['backbone.conv1.weight']
    torch.save({'foreign': torch.ones(1)}, source)
    with pytest.raises(SystemExit) as error:
        module.main([kind, str(source), str(out)])
    assert error.value.code == 2
    assert 'foreign' in capsys.readouterr().err
