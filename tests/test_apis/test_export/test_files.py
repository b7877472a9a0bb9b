"""What is exported runs in stock mmseg and mmpretrain, MMLocal not there."""

from __future__ import annotations

import importlib.util
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mmlocal
from mmlocal.apis.export import export_config, publish_model
from mmlocal.apis.export.stock import plain_config
from mmlocal.apis.zoo import get_config, list_models
from mmlocal.apis.zoo.checkpoints import load_checkpoint

ROOT = Path(__file__).parents[3]
# Loads config and checkpoint as a user without MMLocal does.
STOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'mmlocal':
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
import torch

torch.set_num_threads(1)  # as the test: sums in another order differ
library, config, checkpoint, images, out = sys.argv[1:]
torch.load(checkpoint, weights_only=True)
if library == 'mmseg':
    from mmseg.apis import MMSegInferencer, inference_model, init_model
    model = init_model(config, checkpoint, device='cpu')
    inferencer = MMSegInferencer(config, checkpoint, device='cpu')
    image = np.zeros((64, 64, 3), np.uint8)
    inference_model(model, image), inferencer(image)
    print(*model.dataset_meta['classes'])
else:
    from mmpretrain import ImageClassificationInferencer, get_model
    model = get_model(config, pretrained=checkpoint, device='cpu').eval()
    infer = ImageClassificationInferencer(config, pretrained=checkpoint)
    print(infer(np.zeros((32, 32, 3), np.uint8))[0]['pred_class'])
with torch.no_grad():
    logits = model(torch.from_numpy(np.load(images)), mode='tensor')
np.save(out, logits.numpy())
assert not any(name.startswith('mmlocal') for name in sys.modules)
"""
RUN = dict(
    val_cfg=None,
    val_dataloader=None,
    val_evaluator=None,
    train_dataloader=dict(
        batch_size=4, num_workers=0, persistent_workers=False
    ),
)


def train(config: Path, tmp_path: Path, **settings) -> Path:
    """A few steps; the checkpoint."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({**RUN, **settings, 'work_dir': str(tmp_path)})
    cfg.test_cfg = cfg.test_evaluator = None
    cfg.test_dataloader = None
    cfg.default_hooks.checkpoint.save_best = None
    cfg.launcher = 'none'
    Runner.from_cfg(cfg).train()
    return Path((tmp_path / 'last_checkpoint').read_text())


def run_stock(python, library, config, checkpoint, images, tmp_path):
    np.save(tmp_path / 'images.npy', images.numpy())
    out = tmp_path / 'logits.npy'
    result = python.run(
        *('-c', STOCK, library, config, checkpoint),
        *(tmp_path / 'images.npy', out),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert 'not match' not in result.stdout + result.stderr
    assert 'unexpected key' not in result.stdout + result.stderr
    return result.stdout, np.load(out)


def local_logits(config, checkpoint, images):
    """Of the model as it was trained."""
    model = mmlocal.get_model(config, checkpoint, 'cpu', local_heads=True)
    assert len(model.backbone.local_heads)
    with torch.no_grad():
        return model(images, mode='tensor').numpy()


@pytest.mark.slow
def test_segmentor_in_stock_mmseg(tmp_path, fresh_python):
    config = ROOT / 'configs/infopro/deeplabv3_r18_shapes.py'
    checkpoint = train(
        config,
        tmp_path,
        train_cfg=dict(max_iters=2, val_interval=9),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            persistent_workers=False,
            dataset=dict(num_images=4),
        ),
    )
    exported = mmlocal.export(config, checkpoint, tmp_path / 'out')
    assert exported.config.name == 'infopro_deeplabv3_r18_shapes.py'
    images = torch.randn(1, 3, 64, 64)
    stock = 'mmseg', *exported, images, tmp_path
    text, logits = run_stock(fresh_python, *stock)
    assert 'background disc' in text
    assert (logits == local_logits(config, checkpoint, images)).all()


@pytest.mark.slow
def test_classifier_in_stock_mmpretrain(tmp_path, fresh_python):
    config = tmp_path / 'configs' / 'mine.py'
    config.parent.mkdir()
    config.write_text(
        f"_base_ = '{ROOT}/configs/infopro/resnet20_shapes.py'\n"
        'model = dict(\n'
        '    backbone=dict(\n'
        "        backbone=dict(_delete_=True, type='ResNet', depth=18,\n"
        '            stem_channels=8, base_channels=8),\n'
        "        boundaries=['layer2.0']),\n"
        '    head=dict(in_channels=64))\n'
    )
    checkpoint = train(
        config,
        tmp_path,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            persistent_workers=False,
            dataset=dict(num_images=8),
        ),
    )
    # The two tools give what export() gives.
    plain = export_config(config, tmp_path / 'plain.py')
    weights = publish_model(checkpoint, tmp_path / 'weights.pth')
    images = torch.randn(2, 3, 32, 32)
    stock = 'mmpretrain', plain, weights, images, tmp_path
    text, logits = run_stock(fresh_python, *stock)
    shapes = ('disc', 'square', 'triangle', 'star', 'ring')
    assert text.rstrip().endswith(shapes)
    assert (logits == local_logits(config, checkpoint, images)).all()


def test_published_file_has_weights_and_their_hash(tmp_path):
    name = 'infopro_resnet20_shapes'
    model = mmlocal.get_model(name, False, 'cpu', local_heads=True)
    source = tmp_path / 'epoch_1.pth'
    torch.save(
        {
            'meta': {
                'epoch': 1,
                'cfg': 'a long text',
                'dataset_meta': {'classes': ('a', 'b'), 'x': np.ones(2)},
            },
            'state_dict': model.state_dict(),
            'optimizer': {'state': {}},
            'message_hub': {},
        },
        source,
    )
    out = publish_model(source, tmp_path / 'deep' / 'resnet20.pth')
    digest = sha256(out.read_bytes()).hexdigest()
    assert out.name.startswith('resnet20_20')
    assert out.name.endswith(f'-{digest[:8]}.pth')
    assert list(out.parent.iterdir()) == [out]
    loaded = torch.load(out, weights_only=True)
    assert loaded['meta'] == {
        'epoch': 1,
        'dataset_meta': {'classes': ('a', 'b'), 'x': [1.0, 1.0]},
    }
    assert loaded.keys() == {'meta', 'state_dict'}
    plain = mmlocal.get_model(name, False, 'cpu').state_dict()
    assert loaded['state_dict'].keys() == plain.keys()
    assert load_checkpoint(out).keys() == loaded.keys()


# Those of small images differ in what local heads do, which goes.
SMALL = ('cifar10_', 'svhn_', 'stl10_')
NAMES = [n for n in list_models() if not any(word in n for word in SMALL)]


@pytest.mark.parametrize('name', NAMES)
def test_every_config_is_plain_or_says_why_not(name):
    cfg = get_config(name)
    model = {**cfg.model}
    model['backbone'] = model['backbone'].get('backbone', model['backbone'])
    if 'mmlocal.' in str(model).replace('mmlocal.Imagewise', ''):
        with pytest.raises(ValueError, match='only MMLocal has'):
            plain_config(cfg)
        return
    plain, notes = plain_config(cfg)
    text = str(plain.to_dict())
    assert 'mmlocal' not in text and 'local_heads' not in text
    assert 'pretrained' not in plain.model
    local = not name.startswith('e2e')
    assert any('without local heads' in note for note in notes) == local
    own_data = any(word in name for word in ('camvid', 'shapes', 'cifar100'))
    assert ('train_cfg' in plain) == ('val_cfg' in plain) == (not own_data)
    assert plain.test_dataloader.dataset.pipeline == (
        cfg.test_dataloader.dataset.pipeline
    )


def test_stock_training_settings_stay():
    cfg = get_config('infopro_resnet101_imagenet')
    cfg.optim_wrapper.step = 'module'
    plain, notes = plain_config(cfg)
    assert plain.optim_wrapper.type == 'OptimWrapper'
    assert 'step' not in plain.optim_wrapper
    assert plain.custom_hooks == []
    assert 'optim_wrapper: OptimWrapper for mmlocal.LocalOptimWrapper' in notes
    twin = get_config('e2e_resnet101_imagenet')
    assert plain.model == twin.model


def test_heads_whose_loss_is_computed_image_by_image_are_stock():
    cfg = get_config('infopro_deeplabv3_r18_shapes_lean')
    plain, notes = plain_config(cfg)
    expected, _ = plain_config(get_config('e2e_deeplabv3_r18_shapes'))
    expected.model.decode_head.type = 'mmseg.ASPPHead'
    assert plain.model == expected.model
    assert "model: mmseg's decode heads, of the same loss" in notes


def test_validation_of_modules_becomes_that_of_the_model():
    cfg = get_config('infopro_resnet101_imagenet')
    stock, _ = plain_config(cfg)
    for stage, kind in ('val', 'Val'), ('test', 'Test'):
        loop = dict(type=f'mmlocal.Local{kind}Loop', ensemble=None, fp16=True)
        cfg[f'{stage}_cfg'] = loop
        metric = dict(type='mmlocal.PerModuleAccuracy')
        cfg[f'{stage}_evaluator'] = [stock[f'{stage}_evaluator'], metric]
    plain, notes = plain_config(cfg)
    assert plain.val_cfg == dict(type='ValLoop', fp16=True)
    assert plain.test_cfg == dict(type='TestLoop', fp16=True)
    assert plain.val_evaluator == [stock.val_evaluator]
    assert plain.test_evaluator == [stock.test_evaluator]
    assert plain.val_dataloader == stock.val_dataloader
    assert 'val_cfg: ValLoop for mmlocal.LocalValLoop' in notes
    assert 'test_evaluator: without mmlocal.PerModuleAccuracy' in notes


def test_name_of_the_config_ends_in_py(tmp_path):
    with pytest.raises(ValueError, match='ends in .py'):
        export_config('e2e_resnet101_imagenet', tmp_path / 'plain')


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec('onnxruntime'), reason='extra: onnx'
)
def test_onnx_gives_the_logits(tmp_path):
    import onnxruntime

    from mmlocal.apis.export.onnx import export_onnx

    name = 'infopro_resnet20_shapes'
    model = mmlocal.get_model(name, False, 'cpu')
    weights = tmp_path / 'weights.pth'
    torch.save(model.state_dict(), weights)
    path = export_onnx(name, weights, tmp_path / 'model.onnx', (32, 32))
    session = onnxruntime.InferenceSession(str(path))
    for size in 1, 3:
        images = torch.randn(size, 3, 32, 32)
        (logits,) = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            expected = model(images, mode='tensor').numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
