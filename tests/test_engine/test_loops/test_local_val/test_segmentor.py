"""The modules of a segmentor are read out in its one forward."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

CUTS = ['layer2.0', 'layer3.0']

SEGMENTATION = [
    {'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
    {'type': 'mmlocal.PerModuleIoU', 'iou_metrics': ['mIoU']},
]
SIZES = [(32, 24), (20, 32), (30, 30)]
LAYERS = ['stem', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4']
SLIDE = {'mode': 'slide', 'crop_size': (16, 16), 'stride': (11, 11)}


def pixels(flip=None, sizes=SIZES):
    """Images of some sizes, annotated at about twice that, some ignored."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    images, samples = [], []
    for i, (h, w) in enumerate(sizes):
        images.append(torch.randint(256, (3, h, w)).byte())
        label = torch.randint(4, (1, 2 * h + i, 2 * w - 1))
        label[torch.rand(label.shape) < 0.2] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        meta = {'img_shape': (h, w), 'ori_shape': tuple(label.shape[1:])}
        if flip:
            meta.update(flip=True, flip_direction=flip)
        sample.set_metainfo(meta)
        samples.append(sample)
    return {'inputs': images, 'data_samples': samples}


@pytest.fixture
def segmentor(helpers, settle):
    def segmentor(**test_cfg):
        cfg = helpers.segmentor_cfg(CUTS)
        cfg['data_preprocessor']['test_cfg'] = {'size': (32, 32)}
        cfg['test_cfg'] = test_cfg or {'mode': 'whole'}
        return settle(helpers.build(cfg))

    return segmentor


@torch.no_grad()
def windows(model, inputs, index):
    """A module's logits (1, C, H, W), by truncated networks."""
    slide = model.test_cfg['mode'] == 'slide'
    side, step = (16, 11) if slide else (32, 32)
    starts = sorted({min(i, 32 - side) for i in range(0, 32, step)})
    total = count = 0
    for top in starts:
        for left in starts:
            crop = inputs[:, :, top : top + side, left : left + side]
            feat = crop
            for layer in LAYERS[: (3, 4, 6)[index]]:
                feat = getattr(model.backbone.backbone, layer)(feat)
            if index < 2:
                logits = model.backbone.local_heads[index].task(feat, crop)
            else:
                logits = model.decode_head([None, None, None, feat])
            logits = F.interpolate(logits, (side, side), mode='bilinear')
            sides = left, 32 - side - left, top, 32 - side - top
            total = total + F.pad(logits, sides)
            count = count + F.pad(torch.ones(side, side), sides)
    return total / count


@torch.no_grad()
def pixel_logits(model, batch, flip=None):
    """For each module, each image's logits at its annotation's size."""
    axes = {'horizontal': [3], 'vertical': [2]}.get(flip, [])
    result = []
    for index in range(3):
        rows = []
        for image, sample in zip(*batch.values(), strict=True):
            h, w = image.shape[1:]
            one = {'inputs': [image], 'data_samples': [deepcopy(sample)]}
            inputs = model.data_preprocessor(one, False)['inputs']
            assert inputs.shape == (1, 3, 32, 32)  # padded right and below
            logits = windows(model, inputs, index)[:, :, :h, :w].flip(axes)
            size = sample.gt_sem_seg.data.shape[1:]
            rows.append(F.interpolate(logits, size, mode='bilinear'))
        result.append(rows)
    return result


def mean_iou(logits, batch):
    """From the whole confusion matrix."""
    matrix = torch.zeros(4, 4)
    for scores, sample in zip(logits, batch['data_samples'], strict=True):
        label = sample.gt_sem_seg.data
        found, label = (x[label != 255] for x in (scores.argmax(1), label))
        pairs = torch.bincount(4 * label + found, minlength=16)
        matrix += pairs.view(4, 4)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diag()
    return 100 * (matrix.diag() / union).mean().item()


@pytest.mark.parametrize(
    ('test_cfg', 'flip', 'size'),
    [
        ({}, None, 1),
        ({}, None, 3),
        ({}, 'horizontal', 2),
        (SLIDE, None, 1),
        (SLIDE, 'vertical', 2),
    ],
)
def test_segmentor(run, segmentor, test_cfg, flip, size):
    model = segmentor(**test_cfg)
    # A batch has images of one size.
    batch = pixels(flip, SIZES if size == 1 else [(32, 24)] * 3)
    found, kept = run(model, batch, SEGMENTATION, batch_size=size)
    one, two, three = pixel_logits(model.eval(), batch, flip)

    def ensemble(*modules):
        total = 2 ** len(modules) - 1
        return [
            sum(2**i * s.softmax(1) for i, s in enumerate(scores)) / total
            for scores in zip(*modules, strict=True)
        ]

    expected = {
        'module_1': one,
        'module_2': two,
        'ensemble_2': ensemble(one, two),
        'module_3': three,
        'ensemble_3': ensemble(one, two, three),
    }
    assert [*kept[0]['read_outs']] == [*expected]
    for name, scores in expected.items():
        for sample, each in zip(kept, scores, strict=True):
            fields = {**sample, **sample['read_outs'][name]}
            label = fields['pred_sem_seg']['data']
            assert (label == each.argmax(1)).float().mean() > 0.999
        value = mean_iou(scores, batch)
        assert found[f'{name}/mIoU'] == pytest.approx(value, abs=0.05)
    stock, plain = run(
        model,
        batch,
        SEGMENTATION[:1],
        batch_size=size,
        type='ValLoop',
    )
    assert {key: found[key] for key in stock} == stock
    for sample, other in zip(kept, plain, strict=True):
        one, two = (x['seg_logits']['data'] for x in (sample, other))
        assert torch.equal(one, two)


@pytest.mark.parametrize('test_cfg', [{}, SLIDE])
@pytest.mark.parametrize('only', [0, 1, 2])
def test_one_module_of_a_segmentor_in_training(run, segmentor, test_cfg, only):
    model = segmentor(**test_cfg)
    model.backbone.train_only(only)
    batch = pixels()
    found, kept = run(model, batch, SEGMENTATION)
    scores = pixel_logits(model.eval(), batch)[only]
    for sample, each in zip(kept, scores, strict=True):
        torch.testing.assert_close(
            sample['seg_logits']['data'], each[0], rtol=1e-4, atol=1e-4
        )
    names = [f'module_{i + 1}' for i in range(only + 1)]
    assert [n for n in kept[0]['read_outs'] if 'module' in n] == names
    assert found['mIoU'] == found[f'module_{only + 1}/mIoU']
    assert found['mIoU'] == pytest.approx(mean_iou(scores, batch), abs=0.05)


def test_windows_do_not_run_twice(run, segmentor):
    model = segmentor(**SLIDE)
    calls = []
    model.backbone.backbone.register_forward_hook(
        lambda *args: calls.append(1)
    )
    run(model, pixels(), SEGMENTATION)
    assert len(calls) == len(SIZES) * 9


@pytest.mark.parametrize('ensemble', ['prob', None])
def test_binary_segmentor(run, helpers, settle, ensemble):
    """One logit in the model's head, two in the local heads."""
    cfg = helpers.segmentor_cfg(CUTS)
    cfg['backbone']['local_heads']['num_classes'] = 2
    cfg['decode_head'].update(
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        loss_decode={'type': 'CrossEntropyLoss', 'use_sigmoid': True},
    )
    cfg['test_cfg'] = SLIDE
    model = settle(helpers.build(cfg))
    batch = helpers.segmentation_batch()
    settings = {'ensemble': ensemble}
    if ensemble:
        with pytest.raises(ValueError, match='ensemble=None'):
            run(model, batch, SEGMENTATION, **settings)
        return
    _, kept = run(model, batch, SEGMENTATION, **settings)
    for sample, image in zip(kept, batch['inputs'], strict=True):
        *local, last = sample['read_outs'].values()
        assert last == {} and len(local) == 2
        assert sample['seg_logits']['data'].shape == (1, 32, 32)
        inputs = model.data_preprocessor({'inputs': [image]})['inputs']
        for index, fields in enumerate(local):
            logits = windows(model.eval(), inputs, index)
            assert logits.shape[1] == 2
            label = fields['pred_sem_seg']['data']
            assert (label == logits.argmax(1)).float().mean() > 0.999
