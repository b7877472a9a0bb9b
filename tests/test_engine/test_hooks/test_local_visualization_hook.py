from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmlocal.engine.hooks import LocalVisualizationHook
from mmlocal.step import to_pixels


class Visualizer:
    dataset_meta = {
        'classes': ['sky', 'road', 'car', 'tree'],
        'palette': [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]],
    }

    def __init__(self):
        self.images = []

    def add_image(self, name, image, step):
        self.images.append((name, image, step))


def validate(hook, model, batches):
    model.eval()
    runner = SimpleNamespace(
        model=model, visualizer=Visualizer(), iter=7, val_dataloader=batches
    )
    for index, batch in enumerate(batches):
        hook.after_val_iter(runner, index, batch, [])
    hook.after_val_epoch(runner)
    return runner.visualizer.images


def test_segmentor(helpers):
    cuts = ['layer2.0', 'layer4.0']
    model = helpers.build(helpers.segmentor_cfg(cuts))
    batches = [helpers.segmentation_batch(seed=seed) for seed in range(3)]
    hook = LocalVisualizationHook(num_images=3)
    ((name, image, step),) = validate(hook, model, batches)
    assert (name, step, image.dtype) == ('local_modules', 7, np.uint8)
    # 3 rows; the input, and a reconstruction and a mask of 2 modules.
    tile = 192 + 2
    assert image.shape == (3 * (tile + 18), 5 * tile, 3)

    # The input is the image before normalization, in RGB.
    pixels = batches[0]['inputs'][0].flip(0).permute(1, 2, 0).numpy()
    shown = image[18 : 18 + 192 : 6, 0:192:6]
    assert np.abs(shown.astype(int) - pixels).max() <= 1
    # The mask is in the palette's colours.
    mask = image[18 : 18 + 192, 2 * tile : 2 * tile + 192].reshape(-1, 3)
    assert {tuple(colour) for colour in mask} <= {
        tuple(colour) for colour in Visualizer.dataset_meta['palette']
    }
    data = model.data_preprocessor(batches[0], False)
    images = to_pixels(data['inputs'], model.data_preprocessor)
    rebuilt = model.backbone.predict_local(data['inputs'])[0]
    rebuilt = rebuilt['reconstruction'][0].permute(1, 2, 0).detach().numpy()
    shown = image[18 : 18 + 192 : 6, tile : tile + 192 : 6]
    assert np.abs(shown - 255 * rebuilt).max() <= 1
    assert images.shape == (2, 3, 32, 32)


def test_classifier_and_interval(helpers):
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        'boundaries': ['layer3.0'],
        'local_heads': {'type': 'mmlocal.InfoProHead', 'num_classes': 4},
    }
    model = helpers.build(helpers.classifier_cfg(backbone, 64, 4))
    batch = helpers.classification_batch(2, num_classes=4)
    hook = LocalVisualizationHook(num_images=4, interval=2)
    assert len(validate(hook, model, [batch])) == 1
    assert len(validate(hook, model, [batch])) == 0
    assert len(validate(hook, model, [batch])) == 1


def test_nothing_to_show(helpers):
    model = helpers.build(helpers.segmentor_cfg())
    batch = helpers.segmentation_batch()
    assert validate(LocalVisualizationHook(), model, [batch]) == []


def test_bgr_networks(helpers):
    cfg = helpers.segmentor_cfg(['layer2.0'])
    cfg['data_preprocessor']['bgr_to_rgb'] = False
    model = helpers.build(cfg)
    batch = helpers.segmentation_batch()
    hook = LocalVisualizationHook(channel_order='bgr')
    ((_, image, _),) = validate(hook, model, [batch])
    pixels = batch['inputs'][0].flip(0).permute(1, 2, 0).numpy()
    shown = image[18 : 18 + 192 : 6, 0:192:6]
    assert np.abs(shown.astype(int) - pixels).max() <= 1
    with pytest.raises(ValueError, match='channel_order'):
        LocalVisualizationHook(channel_order='RGB')


def test_weights_and_mode_are_left_alone(helpers):
    model = helpers.build(helpers.segmentor_cfg(['layer2.0']))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    validate(LocalVisualizationHook(), model, [helpers.segmentation_batch()])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_large_images_are_reduced(helpers):
    model = helpers.build(helpers.segmentor_cfg(['layer2.0']))
    batch = helpers.segmentation_batch(1)
    hook = LocalVisualizationHook(num_images=1, max_size=16)
    ((_, image, _),) = validate(hook, model, [batch])
    assert image.shape == (16 + 18 + 2, 3 * (16 + 2), 3)


def test_rows_are_spread_over_the_data_set(helpers):
    model = helpers.build(helpers.segmentor_cfg(['layer2.0']))
    batches = [helpers.segmentation_batch(1, seed=seed) for seed in range(7)]
    hook = LocalVisualizationHook(num_images=3)
    ((_, image, _),) = validate(hook, model, batches)
    height = 192 + 18 + 2
    assert image.shape[0] == 3 * height
    for row, seed in enumerate((0, 2, 4)):
        pixels = batches[seed]['inputs'][0].flip(0).permute(1, 2, 0).numpy()
        top = row * height + 18
        shown = image[top : top + 192 : 6, 0:192:6]
        assert np.abs(shown.astype(int) - pixels).max() <= 1
