"""Each read-out gets what the stock metric computes for it."""

import logging

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope

from mmlocal.registry import METRICS

CLASSES = {'classes': ('a', 'b', 'c', 'd')}


def evaluate(cfg, samples):
    init_default_scope('mmengine')
    evaluator = Evaluator([cfg])
    evaluator.dataset_meta = CLASSES
    for half in samples[::2], samples[1::2]:
        evaluator.process(half)
    return evaluator.evaluate(len(samples))


def class_samples(count=9):
    fields = [
        {'pred_score': torch.randn(4).softmax(0)} for _ in range(3 * count)
    ]
    names = 'module_1', 'module_2', 'ensemble_2'
    return [
        {
            'gt_label': torch.randint(4, (1,)),
            'pred_score': torch.full((4,), 0.25),
            'read_outs': dict(zip(names, fields[i::count], strict=True)),
        }
        for i in range(count)
    ]


def pixel_samples(count=5):
    samples = []
    for _ in range(count):
        size = (1, *torch.randint(3, 9, (2,)).tolist())
        label = torch.randint(4, size)
        label[torch.rand(size) < 0.3] = 255
        fields = [
            {'pred_sem_seg': {'data': torch.randint(4, size).short()}}
            for _ in range(2)
        ]
        read_outs = {'module_1': fields[0], 'module_2': {}}
        samples.append(
            {
                'gt_sem_seg': {'data': label},
                **fields[1],
                'read_outs': read_outs,
            }
        )
    return samples


def of(samples, name):
    """The samples with a read-out as the model's own prediction."""
    return [{**each, **each['read_outs'][name]} for each in samples]


@pytest.mark.parametrize(
    'settings',
    [{}, {'topk': (1, 2, 3)}, {'topk': 2, 'thrs': (0.0, 0.3), 'prefix': 'p'}],
)
def test_accuracy(settings):
    samples = class_samples()
    found = evaluate(
        {'type': 'mmlocal.PerModuleAccuracy', **settings}, samples
    )
    expected = {}
    for name in 'module_1', 'module_2', 'ensemble_2':
        stock = {'type': 'mmpretrain.Accuracy', **settings}
        for key, value in evaluate(stock, of(samples, name)).items():
            expected[f'{name}/{key}'] = value
    assert found == expected
    assert len({*found.values()}) > 2
    prefix = settings.get('prefix', 'accuracy')
    assert all(key.split('/')[1] == prefix for key in found)


@pytest.mark.parametrize(
    'settings',
    [
        {'iou_metrics': ['mIoU']},
        {'iou_metrics': ['mDice', 'mFscore'], 'ignore_index': 3},
        {'nan_to_num': 0, 'prefix': 'val'},
    ],
)
def test_iou(settings):
    samples = pixel_samples()
    found = evaluate({'type': 'mmlocal.PerModuleIoU', **settings}, samples)
    expected = {}
    for name in 'module_1', 'module_2':
        stock = {'type': 'mmseg.IoUMetric', **settings}
        for key, value in evaluate(stock, of(samples, name)).items():
            expected[f'{name}/{key}'] = value
    assert found == expected
    assert found != {
        key.replace('_1', '_2'): value for key, value in found.items()
    }


def test_iou_shows_one_table_of_the_classes(caplog):
    samples = pixel_samples()
    with caplog.at_level(logging.INFO):
        logger = logging.getLogger('tables')
        from mmengine.logging import MMLogger

        logger = MMLogger.get_instance('tables', log_level='INFO')
        logger.addHandler(caplog.handler)
        evaluate({'type': 'mmlocal.PerModuleIoU'}, samples)
    (table,) = [
        r.getMessage() for r in caplog.records if '|' in r.getMessage()
    ]
    head, *rows = [line for line in table.splitlines() if '|' in line]
    assert head.replace('|', '').split() == ['IoU', 'module_1', 'module_2']
    assert [row.split()[1] for row in rows] == ['a', 'b', 'c', 'd']


def test_iou_keeps_no_maps():
    init_default_scope('mmengine')
    metric = METRICS.build({'type': 'mmlocal.PerModuleIoU'})
    metric.dataset_meta = CLASSES
    metric.process(None, pixel_samples())
    for row in metric.results:
        for areas in row.values():
            assert [area.shape for area in areas] == [(4,)] * 4


@pytest.mark.parametrize('key', ['output_dir', 'format_only'])
def test_iou_writes_no_maps(key):
    with pytest.raises(ValueError, match=f'remove {key}'):
        METRICS.build({'type': 'mmlocal.PerModuleIoU', key: 'somewhere'})


def test_without_read_outs():
    (sample,) = class_samples(1)
    cfg = {'type': 'mmlocal.PerModuleAccuracy'}
    assert evaluate(cfg, [{**sample, 'read_outs': {}}]) == {}
    del sample['read_outs']
    with pytest.raises(ValueError, match='LocalValLoop'):
        evaluate(cfg, [sample])
