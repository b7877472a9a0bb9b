"""tools/analysis_tools/browse_dataset.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).parents[1]
PATH = ROOT / 'tools/analysis_tools/browse_dataset.py'
SPEC = importlib.util.spec_from_file_location('tools_browse_dataset', PATH)
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)
SHAPES = ROOT / 'configs/infopro/deeplabv3_r18_shapes.py'


@pytest.mark.slow
def test_masks_are_those_of_the_data_set():
    """Of the validation set, which no transform changes."""
    cfg = Config.fromfile(SHAPES)
    found, meta = TOOL.annotated(cfg, 'val', 2)
    dataset = TOOL.Runner.build_dataloader(cfg.val_dataloader).dataset
    assert meta['classes'] == dataset.metainfo['classes']
    for item, index in zip(found, (0, len(dataset) - 1), strict=True):
        sample = dataset[index]
        mask = sample['data_samples'].gt_sem_seg.data[0].numpy()
        np.testing.assert_array_equal(item.truth, mask)
        image = sample['inputs'].permute(1, 2, 0).numpy()
        if 'LoadImageFromFile' in str(cfg.val_dataloader):
            image = image[..., ::-1]
        # To the rounding of normalization and back.
        assert np.abs(item.seen.astype(int) - image).max() <= 1


def test_each_view_of_an_image_is_drawn():
    cfg = Config.fromfile(ROOT / 'configs/e2e/resnet20_shapes.py')
    crop = [dict(type='RandomCrop', crop_size=24, padding=4)]
    load, _, pack = cfg.train_dataloader.dataset.pipeline
    views = dict(type='MultiView', num_views=2, transforms=[crop])
    cfg.train_dataloader.dataset.pipeline = [load, views, pack]
    cfg.data_preprocessor.type = 'mmlocal.MultiViewDataPreprocessor'
    found, _ = TOOL.annotated(cfg, 'train', 3)
    assert len(found) == 6
    assert found[0].truth == found[1].truth is not None
    assert (found[0].seen != found[1].seen).any()


def test_picture(tmp_path, capsys):
    out = tmp_path / 'data.png'
    TOOL.main([str(SHAPES), '--out', str(out), '--number', '4'])
    assert str(out) in capsys.readouterr().out
    width, height = Image.open(out).size
    assert width > 600 and height > 1200


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--number', '0'], 'write one from 1 to'),
        (
            ['--cfg-options', 'train_dataloder.batch_size=3'],
            'did you mean train_dataloader',
        ),
    ],
)
def test_mistakes(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as info:
        TOOL.main([str(SHAPES), '--out', str(tmp_path / 'no.png'), *options])
    assert info.value.code == 2
    assert message in capsys.readouterr().err


def test_waveforms_are_no_images():
    cfg = Config.fromfile(ROOT / 'configs/gim_audio/gim_k6_formants.py')
    cfg.train_dataloader.dataset.num_utterances = 8
    with pytest.raises(ValueError, match='trains on waveforms'):
        TOOL.annotated(cfg, 'train', 1)
