"""Whole runs of contrastive temporal coding, on a few tiny images."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn import functional as F

from mmlocal.engine.hooks.ctc_stage_hook import class_of_each_image

N, SWITCH, EPOCHS = 12, 2, 4


class Images(torch.utils.data.Dataset):
    """Twelve images of three classes, with the numbers mmengine gives."""

    metainfo = {'classes': ['a', 'b', 'c']}
    labels = [index % 3 for index in range(N)]

    def __init__(self, helpers):
        batch = helpers.classification_batch(N, side=16, num_classes=3)
        self.items = []
        for index, image in enumerate(batch['inputs']):
            sample = batch['data_samples'][index]
            sample.set_gt_label(self.labels[index])
            sample.set_metainfo({'sample_idx': index})
            self.items.append({'inputs': image, 'data_samples': sample})

    def get_gt_labels(self):
        return self.labels

    def __len__(self):
        return N

    def __getitem__(self, index):
        return deepcopy(self.items[index])


class Watch(Hook):
    """Keeps losses, weight decay, stage and bank; ends the run."""

    priority = 'LOWEST'

    def __init__(self, stop=None):
        self.stop = stop
        self.log, self.banks = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.banks.append(deepcopy(runner.model.info_bank.state_dict()))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        (group,) = runner.optim_wrapper.optimizer.param_groups
        values = {key: value.item() for key, value in outputs.items()}
        values['weight_decay'] = group['weight_decay']
        values['lr'] = group['lr']
        self.log.append(values)

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def settings(helpers, tmp_path):
    model = helpers.classifier_cfg(
        {'type': 'mmlocal.CIFARResNet', 'depth': 8}, 64, num_classes=3
    )
    model['type'] = 'mmlocal.CTCClassifier'
    model['head'].update(
        type='mmlocal.CTCHead',
        num_images=N,
        num_negatives=5,
        embed_dim=8,
        positive='relax',
    )
    return {
        'model': model,
        'work_dir': str(tmp_path),
        'default_scope': 'mmpretrain',
        'train_dataloader': {
            'batch_size': 5,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': Images(helpers),
        },
        'train_cfg': {'by_epoch': True, 'max_epochs': EPOCHS},
        'optim_wrapper': {
            'type': 'OptimWrapper',
            'optimizer': {
                'type': 'SGD',
                'lr': 0.05,
                'momentum': 0.9,
                'weight_decay': 1e-3,
            },
        },
        'param_scheduler': [
            {'type': 'mmlocal.SegmentCosineLR', 'end': SWITCH},
            {
                'type': 'mmlocal.SegmentCosineLR',
                'begin': SWITCH,
                'end': EPOCHS,
                'factor': 0.1,
            },
        ],
        'custom_hooks': [
            {
                'type': 'mmlocal.CTCStageHook',
                'switch_epoch': SWITCH,
                'update_memory_bank': True,
            }
        ],
        'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
        'randomness': {'seed': 3},
        'log_level': 'WARNING',
    }


COUNT = Counter()


def train(settings, stop=None, **changes):
    settings = deepcopy({**settings, **changes})
    watch = Watch(stop)
    settings['custom_hooks'].append(watch)
    COUNT['run'] += 1
    runner = Runner(experiment_name=f'ctc{COUNT["run"]}', **settings)
    with suppress(KeyboardInterrupt):
        runner.train()
    return runner, watch


def test_two_stages(settings):
    runner, watch = train(settings)
    assert len(watch.log) == 3 * EPOCHS
    first, second = watch.log[: 3 * SWITCH], watch.log[3 * SWITCH :]
    for values in first:
        assert 'loss_contrast' not in values
        parts = values['loss_cls'] + values['loss_instance']
        assert values['loss'] == pytest.approx(parts, rel=1e-6)
        assert values['weight_decay'] == 2e-3
    for values in second:
        assert 'loss_instance' not in values
        parts = values['loss_cls'] + values['loss_contrast']
        assert values['loss'] == pytest.approx(parts, rel=1e-6)
        assert values['weight_decay'] == 1e-3
    # The log has no losses of the first stage, which would stay as they were.
    logged = {*runner.message_hub.log_scalars}
    assert 'train/loss_contrast' in logged
    assert 'train/loss_instance' not in logged
    # A warm restart.
    assert second[0]['lr'] == pytest.approx(0.05 * 0.1 * 0.75)
    assert watch.banks[SWITCH]['taken'] == 1 and not watch.banks[0]['taken']
    # Nothing changes the snapshot.
    end = runner.model.info_bank.state_dict()
    for key, value in watch.banks[SWITCH].items():
        assert value.equal(end[key])
    assert all(p.grad is None for p in runner.model.info_bank.parameters())
    assert not any(m.training for m in runner.model.info_bank.modules())
    # The network went on.
    key = 'layer1.0.conv1.weight'
    assert not end[f'backbone.{key}'].equal(
        runner.model.backbone.state_dict()[key]
    )


def test_the_snapshot_is_the_network_of_the_switch(settings):
    runner, _ = train(settings, stop=SWITCH)
    model = runner.model
    assert not model.info_bank.taken
    before = deepcopy(model.backbone.state_dict())
    hook = next(h for h in runner.hooks if hasattr(h, 'switch_epoch'))
    runner.train_loop._epoch = SWITCH
    hook.before_train_epoch(runner)
    model.train()
    bank = model.info_bank
    assert model.stage == 2
    for key, value in bank.backbone.state_dict().items():
        assert value.equal(before[key])
    # Memories hold its embeddings of the images.
    for data in runner.train_dataloader:
        batch = model.data_preprocessor(data, True)
        (feat,) = bank(batch['inputs'])
        index = [s.sample_idx for s in batch['data_samples']]
        for memory, linear in (
            (model.head.contrast_loss.memory_v, model.head.embed),
            (model.head.contrast_loss.memory_w, model.head.bank_embed),
        ):
            expected = F.normalize(linear(feat), dim=1)
            torch.testing.assert_close(memory.rows[index], expected)


def test_a_resumed_run_is_the_whole_one(settings, tmp_path):
    """Stopped in the first stage, at the switch, and in the second."""
    runner, whole = train(settings, work_dir=str(tmp_path / 'whole'))
    assert (runner.model.head.contrast_loss.scales > 0).all()
    state = runner.model.state_dict()
    for stop in (1, SWITCH, SWITCH + 1):
        settings['work_dir'] = str(tmp_path / f'parts{stop}')
        _, before = train(settings, stop=stop)
        resumed, after = train(settings, resume=True)
        assert len(after.log) == 3 * (EPOCHS - stop)
        assert before.log + after.log == whole.log
        for key, value in resumed.model.state_dict().items():
            assert value.equal(state[key]), key


def test_memories_have_the_embeddings_of_the_last_iterations(settings):
    """Written after the gradient, by the formula of the first stage."""
    settings['train_cfg']['max_epochs'] = SWITCH
    settings['param_scheduler'] = None
    rows = []

    class Rows(Hook):
        priority = 'VERY_LOW'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            loss = runner.model.head.instance_loss
            rows.append(loss.memory.rows.clone())

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            head = runner.model.head
            assert head._unwritten is None
            new = head.instance_loss.memory.rows
            index = [s.sample_idx for s in data_batch['data_samples']]
            others = [i for i in range(N) if i not in index]
            assert new[others].equal(rows[-1][others])
            assert not (new[index] == rows[-1][index]).all(1).any()
            norms = new[index].norm(dim=1)
            torch.testing.assert_close(norms, torch.ones_like(norms))

    settings['custom_hooks'].append(Rows())
    train(settings)
    assert len(rows) == 3 * SWITCH


@pytest.mark.parametrize('trained', [True, False])
def test_projector(settings, trained):
    settings['model']['head']['train_projector'] = trained
    settings['train_cfg']['max_epochs'] = SWITCH
    settings['param_scheduler'] = None
    grads = []

    class Grads(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            head = runner.model.head
            state = head.state_dict()
            grads.append(state['projector.weight'].clone())
            for linear in head.embed, head.bank_embed:
                assert linear.weight.grad is None

    settings['custom_hooks'].append(Grads())
    train(settings)
    assert grads[0].equal(grads[-1]) != trained


def test_local_learning_below(settings):
    """The last module of a cut backbone is trained by CTC, the first by its
    local head; the snapshot is the plain backbone."""
    settings['model']['backbone'] = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': settings['model']['backbone'],
        'boundaries': ['layer2.0'],
        'local_heads': {'type': 'mmlocal.DGLHead', 'num_classes': 3},
        'input_shape': (3, 32, 32),
    }
    settings['optim_wrapper']['type'] = 'mmlocal.LocalOptimWrapper'
    settings['custom_hooks'].insert(0, {'type': 'mmlocal.LocalLossHook'})
    runner, watch = train(settings)
    assert 'loss_contrast' in watch.log[-1]
    bank = runner.model.info_bank
    assert type(bank.backbone).__name__ == 'CIFARResNet'
    assert not [key for key in bank.state_dict() if 'local_heads' in key]
    scalars = runner.message_hub.log_scalars
    assert 'train/local_0.loss_task' in scalars
    first = 'backbone.layer1.0.conv1.weight'
    assert not bank.state_dict()[first].equal(runner.model.state_dict()[first])


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        (('model', 'head', 'num_images'), 9, 'has 12 images: write num_im'),
        (('model', 'head', 'num_negatives'), 9, 'num_negatives=8 or less'),
        (('train_cfg', 'max_epochs'), 1, 'write at most 1'),
        (
            ('train_cfg',),
            {'by_epoch': False, 'max_iters': 6},
            'by_epoch=True',
        ),
        (('model', 'type'), 'ImageClassifier', "type='mmlocal.CTCClassifier"),
    ],
)
def test_refused_before_training(settings, place, value, message):
    node = settings
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    settings['param_scheduler'] = None
    if value == 'ImageClassifier':
        settings['model']['head'] = {
            'type': 'LinearClsHead',
            'num_classes': 3,
            'in_channels': 64,
        }
    with pytest.raises(ValueError, match=message):
        train(settings)


def test_a_checkpoint_without_snapshot_is_refused(settings):
    """It was taken when the first stage was to be longer."""
    later = deepcopy(settings)
    later['custom_hooks'][0]['switch_epoch'] = EPOCHS
    train(later, stop=SWITCH + 1)
    with pytest.raises(ValueError, match=r'no\s+snapshot.*switch_epoch=3'):
        train(settings, resume=True)


def test_without_the_hook_it_is_said(settings):
    settings['custom_hooks'] = []
    with pytest.raises(ValueError, match='CTCStageHook'):
        train(settings)


def test_labels_through_wrappers(helpers):
    images = Images(helpers)
    repeated = torch.utils.data.Subset(images, [3, 1])
    assert class_of_each_image(repeated).tolist() == images.labels
    both = torch.utils.data.ConcatDataset([images, images])
    with pytest.raises(ValueError, match='same sample_idx'):
        class_of_each_image(both)
    with pytest.raises(ValueError, match='no get_gt_labels'):
        class_of_each_image(torch.utils.data.TensorDataset())
