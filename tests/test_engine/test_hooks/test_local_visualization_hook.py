"""Pictures of modules during training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmlocal.engine.hooks import LocalVisualizationHook
from mmlocal.visualization import draw_modules, predictions_of


class Visualizer:
    dataset_meta = {
        'classes': ['sky', 'road', 'car', 'tree'],
        'palette': [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]],
    }

    def __init__(self):
        self.images = []

    def add_image(self, name, image, step):
        self.images.append((name, image, step))


def segmentor(helpers, cuts=(), **preprocessor):
    cfg = helpers.segmentor_cfg(cuts)
    cfg['data_preprocessor'].update(preprocessor)
    cfg['test_cfg'] = {'mode': 'whole'}
    return helpers.build(cfg)


def validate(hook, model, batches):
    model.eval()
    runner = SimpleNamespace(
        model=model, visualizer=Visualizer(), iter=7, val_dataloader=batches
    )
    for index, batch in enumerate(batches):
        with torch.no_grad():
            outputs = model.val_step(batch)
        hook.after_val_iter(runner, index, batch, outputs)
    hook.after_val_epoch(runner)
    return runner.visualizer.images


def pictures(model, batch, **settings):
    """What is expected of each image."""
    with torch.no_grad():
        inputs = model.data_preprocessor(batch, False)['inputs']
        samples = model.val_step(batch)
    return [
        draw_modules(each, top=3, tile=240, **Visualizer.dataset_meta)
        for each in predictions_of(
            model, inputs, samples, modules=True, **settings
        )
    ]


def test_segmentor(helpers):
    cuts = ['layer2.0', 'layer4.0']
    model = segmentor(helpers, cuts)
    batches = [helpers.segmentation_batch(seed=seed) for seed in range(3)]
    hook = LocalVisualizationHook(num_images=3)
    ((name, image, step),) = validate(hook, model, batches)
    assert (name, step, image.dtype) == ('local_modules', 7, np.uint8)
    rows = [pictures(model, batch)[0] for batch in batches]
    for found, row in zip(np.vsplit(image, 3), rows, strict=True):
        assert np.array_equal(found, row)


def test_views_are_those_of_image_annotation_and_heads(helpers):
    model = segmentor(helpers, ['layer2.0']).eval()
    batch = helpers.segmentation_batch()
    with torch.no_grad():
        inputs = model.data_preprocessor(batch, False)['inputs']
        samples = model.val_step(batch)
    first, _ = predictions_of(model, inputs, samples, modules=True)
    # The image before normalization, in RGB.
    pixels = batch['inputs'][0].flip(0).permute(1, 2, 0).numpy()
    assert np.abs(first.seen.astype(int) - pixels).max() <= 1
    truth = batch['data_samples'][0].gt_sem_seg.data[0]
    assert np.array_equal(first.truth, truth)
    (seen,) = model.backbone.predict_local(inputs)
    rebuilt = seen['reconstruction'][0].permute(1, 2, 0).detach().numpy()
    found = first.modules[0].reconstruction
    assert np.abs(found - 255 * rebuilt).max() <= 1


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
    ((_, image, _),) = validate(hook, model, [batch])
    assert np.array_equal(image, np.vstack(pictures(model, batch)))
    assert len(validate(hook, model, [batch])) == 0
    assert len(validate(hook, model, [batch])) == 1


def test_nothing_to_show(helpers):
    model = segmentor(helpers)
    batch = helpers.segmentation_batch()
    assert validate(LocalVisualizationHook(), model, [batch]) == []


def test_bgr_networks(helpers):
    model = segmentor(helpers, ['layer2.0'], bgr_to_rgb=False)
    batch = helpers.segmentation_batch(1)
    hook = LocalVisualizationHook(channel_order='bgr')
    ((_, image, _),) = validate(hook, model, [batch])
    (expected,) = pictures(model, batch, rgb=False)
    assert np.array_equal(image, expected)
    (other,) = pictures(model, batch, rgb=True)
    assert not np.array_equal(image, other)
    with pytest.raises(ValueError, match='channel_order'):
        LocalVisualizationHook(channel_order='RGB')


def test_weights_and_mode_are_left_alone(helpers):
    model = segmentor(helpers, ['layer2.0'])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    validate(LocalVisualizationHook(), model, [helpers.segmentation_batch()])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_images_are_spread_over_the_data_set(helpers):
    model = segmentor(helpers, ['layer2.0'])
    batches = [helpers.segmentation_batch(1, seed=seed) for seed in range(7)]
    hook = LocalVisualizationHook(num_images=3)
    ((_, image, _),) = validate(hook, model, batches)
    rows = [pictures(model, batches[seed])[0] for seed in (0, 2, 4)]
    assert np.array_equal(image, np.vstack(rows))
