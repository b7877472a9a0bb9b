"""From a name to a model: downloaded, checked, converted, equal."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import mmengine.hub
import numpy as np
import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

import mmlocal
from mmlocal.apis.zoo import build_model, download, get_config
from mmlocal.apis.zoo.converters import convert_imagenet
from mmlocal.apis.zoo.download import cache_dir
from mmlocal.apis.zoo.releases import RELEASES

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location(
    'published', Path(__file__).parents[1] / 'published.py'
)
published = importlib.util.module_from_spec(spec)
spec.loader.exec_module(published)


@pytest.fixture
def release(host, monkeypatch):
    """Lets the hosts have a file under the id of a release."""
    hosts = {
        'Tsinghua Cloud': f'{host.url}/f/{{id}}/?dl=1',
        'Google Drive': f'{host.url}/download?id={{id}}',
    }
    monkeypatch.setattr(download, 'HOSTS', hosts)

    def serve(name: str, checkpoint: dict) -> None:
        ids = RELEASES[name].file.ids
        data = published.to_bytes(checkpoint)
        path = f'/download?id={ids["Google Drive"]}'
        host.routes[path] = host.content(data, cuts=[len(data) // 2])

    yield serve
    shutil.rmtree(cache_dir(), ignore_errors=True)  # many MB


@pytest.fixture
def few_blocks(monkeypatch):
    """ResNet-101 is not as deep, in mmpretrain and in torchvision."""
    from mmpretrain.models.backbones.resnet import Bottleneck, ResNet

    blocks = 1, 2, 1, 1
    monkeypatch.setitem(ResNet.arch_settings, 101, (Bottleneck, blocks))
    nets = torchvision.models
    net = partial(nets.ResNet, nets.resnet.Bottleneck, blocks)
    monkeypatch.setattr(nets, 'resnet101', net)


@pytest.fixture
def narrow(monkeypatch):
    """Configs of DeepLabV3 with ResNet-101 have an eighth of its channels."""
    read = Config.fromfile

    def fromfile(*args, **kwargs):
        cfg = read(*args, **kwargs)
        backbone = cfg.model.backbone
        net = backbone.get('backbone', backbone)
        net.update(stem_channels=8, base_channels=8)
        for head in cfg.model.decode_head, cfg.model.auxiliary_head:
            head.in_channels //= 8
            head.channels //= 8
        return cfg

    monkeypatch.setattr(Config, 'fromfile', fromfile)


@pytest.mark.slow
def test_classifier_by_name(release, host, few_blocks):
    name = 'infopro_resnet101_imagenet'
    weights, reference = published.imagenet_file('resnet101')
    release(name, weights)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference(images)

    model = mmlocal.get_model(name, device='cpu', progress=False)
    assert len(host.requests) == 3  # 404, cut in half, resumed
    assert type(model.backbone).__name__ == 'ResNet'
    with torch.no_grad():
        assert torch.equal(model(images, mode='tensor'), expected)

    # The same through the libraries.
    import mmpretrain

    init_default_scope('mmpretrain')  # another test's may be left

    path = 'mmlocal::infopro/resnet101_imagenet.py'
    hub = mmengine.hub.get_model(path, pretrained=True).eval()
    stock = mmpretrain.get_model(name, pretrained=True)
    for other in hub, stock:
        with torch.no_grad():
            assert torch.equal(other(images, mode='tensor'), expected)
    assert name in mmpretrain.list_models('infopro_resnet101*')
    image = np.random.RandomState(0).randint(0, 256, (80, 90, 3), np.uint8)
    results = [
        mmpretrain.ImageClassificationInferencer(one, device='cpu')(image)[0]
        for one in (name, model)
    ]
    assert results[0]['pred_class'] == results[1]['pred_class']
    assert results[0]['pred_score'] == results[1]['pred_score']
    inferred = mmpretrain.inference_model(model, image)
    assert inferred['pred_score'] == results[1]['pred_score']
    assert len(host.requests) == 3  # from the cache

    local = mmlocal.get_model(name, device='cpu', local_heads=True)
    check_local_head(local, weights, published.decoder(512))


def check_local_head(model, weights, decoder):
    """The auxiliary nets work on as the authors' would."""
    prefix = 'decoder.decoder.'
    decoder.load_state_dict(
        {
            k.removeprefix(prefix): v
            for k, v in weights.items()
            if k.startswith(prefix)
        }
    )
    task = published.task_net().eval()
    task.load_state_dict(
        {k[5:]: v for k, v in weights.items() if k.startswith('head.')}
    )
    feat, images = torch.rand(1, 512, 8, 8), torch.rand(1, 3, 64, 64)
    (head,) = model.backbone.local_heads
    with torch.no_grad():
        seen = head.predict(feat, images)
        expected = decoder.eval()(feat)
        torch.testing.assert_close(seen['reconstruction'], expected)
        torch.testing.assert_close(seen['logits'], task(feat))


@pytest.mark.slow
def test_segmentor_by_name(release, narrow):
    name = 'infopro_deeplabv3_r101_cityscapes'
    checkpoint, reference = published.cityscapes_file(
        get_config('e2e_deeplabv3_r101_cityscapes')
    )
    release(name, checkpoint)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = reference(images, mode='tensor')

    model = mmlocal.get_model(name, device='cpu', progress=False)
    assert model.state_dict().keys() == reference.state_dict().keys()
    assert model.dataset_meta['classes'][:2] == ('class 0', 'class 1')
    with torch.no_grad():
        assert torch.equal(model(images, mode='tensor'), expected)

    from mmseg.apis import MMSegInferencer

    image = np.random.RandomState(0).randint(0, 256, (32, 64, 3), np.uint8)
    inferencer = MMSegInferencer(name, scope='mmlocal', device='cpu')
    (resize,) = (t for t in inferencer.pipeline.transforms if is_resize(t))
    resize.scale = (64, 32)  # of 2048 x 1024, which takes minutes
    seen = inferencer(image)['predictions']
    (own,) = model.test_step(pseudo_collate([inferencer.pipeline(image)]))
    own = own.pred_sem_seg.data[0].numpy()
    assert (seen == own).all()
    assert inferencer.model.dataset_meta['palette'][1] == [1, 2, 3]


def is_resize(transform):
    return type(transform).__name__ == 'Resize'


@pytest.mark.slow
def test_end_to_end_release_has_no_local_heads(release, narrow):
    name = 'e2e_deeplabv3_r101_cityscapes_60k'
    checkpoint, reference = published.cityscapes_file(get_config(name))
    release(name, checkpoint)
    path = 'mmlocal::e2e/deeplabv3_r101_cityscapes_60k.py'
    model = mmengine.hub.get_model(path, pretrained=True)
    expected = reference.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    ('net', 'name', 'count'),
    [
        pytest.param(
            'resnet101',
            'infopro_resnet101_imagenet',
            626,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'resnet152',
            'infopro_resnet152_imagenet',
            932,
            marks=pytest.mark.slow,
        ),
        ('resnext101_32x8d', 'infopro_resnext101-32x8d_imagenet', 626),
    ],
)
def test_names_and_shapes_of_every_classifier(net, name, count, monkeypatch):
    # mmpretrain's ResNet reads the numbers of a linspace.
    linspace = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', linspace)
    with torch.device('meta'):
        weights = {
            **getattr(torchvision.models, net)().state_dict(),
            **published.with_prefix(
                'decoder.decoder.', published.decoder(512)
            ),
            **published.with_prefix('head.', published.task_net()),
        }
        plain = build_model(get_config(name))
        local = build_model(get_config(name), local_heads=True)
    assert len(weights) == count + 49
    for model, keep in (plain, False), (local, True):
        converted = convert_imagenet(weights, keep)
        expected = {k: v.shape for k, v in model.state_dict().items()}
        got = {k: v.shape for k, v in converted.state_dict.items()}
        assert got == expected
        assert len(converted.dropped) == (0 if keep else 49)
        assert len(got) == count + (49 if keep else 0)


def test_names():
    names = mmlocal.list_models()
    assert len(names) == len(list(ROOT.glob('configs/[!_]*/*.py')))
    assert set(mmlocal.list_models(pretrained=True)) == set(RELEASES)
    assert mmlocal.list_models('dgl_vgg19*', pretrained=False) == [
        'dgl_vgg19_imagenet_k2',
        'dgl_vgg19_imagenet_k4',
    ]
    with pytest.raises(ValueError, match='Did you mean infopro_resnet101_im'):
        mmlocal.get_model('infopro_resnet101_imagenet1k')
    with pytest.raises(ValueError, match='no config nowhere.py'):
        mmlocal.get_model('nowhere.py')
    with pytest.raises(ValueError, match='no published weights for .e2e_res'):
        mmlocal.get_model('e2e_resnet20_shapes')


def test_model_with_a_checkpoint_of_ones_own(tmp_path):
    name = 'infopro_resnet20_shapes'
    local = mmlocal.get_model(name, False, 'cpu', local_heads=True)
    path = tmp_path / 'own.pth'
    torch.save({'state_dict': local.state_dict()}, path)
    images = torch.rand(2, 3, 32, 32)
    for keep in False, True:
        model = mmlocal.get_model(name, path, 'cpu', local_heads=keep)
        assert torch.equal(
            model(images, mode='tensor'), local(images, mode='tensor')
        )
    assert model.dataset_meta['classes'][0] == 'disc'
    other = Config.fromfile(ROOT / 'configs/e2e/resnet32_cifar10.py')
    with pytest.raises(ValueError, match='own.pth do not fit the model'):
        mmlocal.get_model(other, path, 'cpu')


def test_names_are_listed_without_torch():
    script = (
        "import mmlocal, sys; mmlocal.list_models(); print('torch' in "
        'sys.modules)'
    )
    result = subprocess.run(
        [sys.executable, '-c', script],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == 'False'
    assert 'get_model' in dir(mmlocal)
    with pytest.raises(AttributeError, match='nothing'):
        mmlocal.nothing  # noqa: B018
