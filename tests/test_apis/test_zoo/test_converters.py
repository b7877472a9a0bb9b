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
        pytest.param(
            110,
            [(2, 8)],
            'infopro_resnet110_cifar10_k2_contrast',
            marks=pytest.mark.slow,
        ),
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


def gim_model(**backbone):
    """Greedy InfoMax's encoder of an eighth of the width, or parts of it."""
    init_default_scope('mmpretrain')
    encoder = dict(
        type='mmlocal.PatchBackbone',
        backbone=dict(
            type='mmlocal.PreActResNet', base_channels=8, in_channels=1
        ),
        patch_size=8,
        stride=4,
    )
    if backbone:
        encoder = dict(
            type='mmlocal.LocalSupervisedBackbone',
            backbone=encoder,
            input_shape=(1, 32, 32),
            **backbone,
        )
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=encoder,
            neck=dict(type='mmlocal.PatchPooling', grid=7),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=128),
        )
    ).eval()


GIM_CUTS = ['backbone.stages.1', 'backbone.stages.2']


def gim_files(whole=False, supervised=False):
    """Random weights under the published keys: a file a module, or one."""
    files, before = [], 8
    for stage, blocks in enumerate((3, 4, 6)):
        convs = {'Conv1': (8, 1, 5)} if stage == 0 else {}
        layer, width = f'layer {stage if whole else 0}', 8 * 2**stage
        for block in range(blocks):
            inputs = 4 * width if block else before
            convs |= {
                f'{layer}.{block}.conv1': (width, inputs, 1),
                f'{layer}.{block}.conv2': (width, width, 3),
                f'{layer}.{block}.conv3': (4 * width, width, 1),
            }
        convs[f'{layer}.0.shortcut.0'] = (4 * width, before, 1)
        file, before = {}, 4 * width
        for name, (rows, columns, side) in convs.items():
            shape = (rows, columns, side, side)
            scale = (columns * side * side) ** -0.5
            file[f'model.{name}.weight'] = torch.randn(shape) * scale
            file[f'model.{name}.bias'] = torch.randn(rows)
        if supervised:
            head = 'loss.linear_classifier.0'
            file[f'{head}.weight'] = torch.randn(10, before)
            file[f'{head}.bias'] = torch.randn(10)
        else:
            for k in range(5):
                shape = (before, before, 1, 1)
                file[f'loss.W_k.{k}.weight'] = torch.randn(shape)
        files.append(file)
    if whole:
        # The last classifier or matrices count.
        return [{**files[0], **files[1], **files[2]}]
    return files


def gim_outputs(files, image, whole=False):
    """What the published code makes of an image: the mean over patches."""
    size = range(0, image.shape[-1] - 7, 4)
    feat = torch.cat(
        [image[..., y : y + 8, x : x + 8] for y in size for x in size]
    )

    def conv(x, file, name, stride=1):
        weight = file[f'model.{name}.weight']
        bias = file[f'model.{name}.bias']
        padding = weight.shape[-1] // 2
        return torch.nn.functional.conv2d(x, weight, bias, stride, padding)

    feat = conv(feat, files[0], 'Conv1')
    for stage, blocks in enumerate((3, 4, 6)):
        file = files[0 if whole else stage]
        for block in range(blocks):
            name = f'layer {stage if whole else 0}.{block}'
            stride = 2 if stage and not block else 1
            out, shortcut = feat.relu(), feat
            if not block:
                shortcut = conv(out, file, f'{name}.shortcut.0', stride)
            out = conv(out, file, f'{name}.conv1').relu()
            out = conv(out, file, f'{name}.conv2', stride).relu()
            feat = conv(out, file, f'{name}.conv3') + shortcut
    return feat.mean((0, 2, 3))


@torch.no_grad()
def check_gim(model, files, whole=False):
    image = torch.randn(1, 1, 32, 32)
    (found,) = model.extract_feat(image)
    expected = gim_outputs(files, image, whole)
    torch.testing.assert_close(found[0], expected)


def test_greedy_infomax():
    files = gim_files()
    assert [len(file) for file in files] == [27, 31, 43]
    plain = convert_gim(files)
    full = convert_gim(files, local_heads=True)
    assert (len(plain.state_dict), len(plain.dropped)) == (86, 15)
    assert (len(full.state_dict), len(full.dropped)) == (101, 0)
    heads = dict(
        boundaries=GIM_CUTS,
        local_heads=dict(type='mmlocal.PatchInfoNCEHead'),
        local_end=True,
    )
    for result, backbone in (plain, {}), (full, heads):
        model = gim_model(**backbone)
        wrong = model.load_state_dict(result.state_dict, strict=False)
        assert wrong.unexpected_keys == []
        assert wrong.missing_keys == ['head.fc.weight', 'head.fc.bias']
        check_gim(model, files)
    matrix = model.backbone.local_heads[1].predictors[2].weight
    assert torch.equal(matrix, files[1]['loss.W_k.2.weight'])
    with pytest.raises(ValueError, match='module 1.*model.Conv1'):
        convert_gim([files[0], files[0]])


def test_greedy_infomax_supervised():
    files = gim_files(supervised=True)
    result = convert_gim(files, local_heads=True)
    assert not result.dropped
    heads = dict(
        type='mmlocal.TaskHead',
        neck=dict(type='mmlocal.PatchPooling', grid=7),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10),
    )
    model = gim_model(boundaries=GIM_CUTS, local_heads=heads)
    model.load_state_dict(result.state_dict)
    check_gim(model, files)
    assert torch.equal(
        model.head.fc.bias, files[2]['loss.linear_classifier.0.bias']
    )
    plain = convert_gim(files)
    gim_model().load_state_dict(plain.state_dict)
    assert len(plain.dropped) == 4


@pytest.mark.parametrize('supervised', [False, True])
def test_greedy_infomax_end_to_end(supervised):
    """One file; that of CPC without its autoregressor."""
    files = gim_files(whole=True, supervised=supervised)
    result = convert_gim(files, local_heads=True)
    model = gim_model()
    wrong = model.load_state_dict(result.state_dict, strict=False)
    head = [] if supervised else ['head.fc.weight', 'head.fc.bias']
    assert wrong == (head, [])
    assert len(result.dropped) == (0 if supervised else 5)
    check_gim(model, files, whole=True)


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
