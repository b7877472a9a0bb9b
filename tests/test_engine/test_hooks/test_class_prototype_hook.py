"""Prototypes of the training set, before training."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import RepeatDataset
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmlocal.datasets import Digits
from mmlocal.engine.hooks import ClassPrototypeHook

PACK = [{'type': 'PackInputs'}]
FLIP = [{'type': 'RandomFlip', 'prob': 1.0}, *PACK]


class Few(Digits):
    """Forty digits."""

    def load_data_list(self):
        return super().load_data_list()[:40]


class SeedEpochs(Hook):
    """Wrong labels are drawn alike in a run that is resumed."""

    def before_train_epoch(self, runner):
        torch.manual_seed(runner.epoch)


def model_cfg(method):
    return {
        'type': 'mmlocal.FFClassifier',
        '_scope_': 'mmpretrain',
        'embedding': {'method': method, 'num_classes': 10},
        'backbone': {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {
                'type': 'mmlocal.FFMLP',
                'in_features': 64,
                'widths': [8, 10],
            },
            'boundaries': ['layers.1'],
            'local_heads': {'type': 'mmlocal.FFHead', 'num_classes': 10},
            'local_end': True,
            'input_shape': (1, 8, 8),
        },
        'data_preprocessor': {'mean': [78.0], 'std': [96.0]},
    }


def learn(helpers, method='average-mixture', dataset=None, **options):
    """The embedding of a model that is about to be trained."""
    init_default_scope('mmpretrain')
    loader = {
        'batch_size': 16,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'dataset': dataset or Few(pipeline=FLIP),
    }
    runner = SimpleNamespace(
        model=helpers.build(model_cfg(method)),
        train_dataloader=Runner.build_dataloader(loader, seed=0),
        cfg={'val_dataloader': {'dataset': {'pipeline': PACK}}},
        _resume=False,
    )
    if options.pop('no_validation', False):
        runner.cfg = {}
    ClassPrototypeHook(**options).before_train(runner)
    return runner.model.embedding


def images_by_class():
    """The digits as the preprocessor hands them out."""
    found = [[] for _ in range(10)]
    for item in Few(pipeline=PACK).load_data_list():
        image = torch.tensor(item['img']).float()[:, :, 0]
        found[item['gt_label']].append((image - 78) / 96)
    return found


@pytest.mark.parametrize('as_published', [False, True])
def test_averages(helpers, as_published):
    """Without augmentation, or as the training draws them."""
    embedding = learn(helpers, as_published=as_published)
    for label, images in enumerate(images_by_class()):
        mean = torch.stack(images).mean(0)
        expected = mean.flip(1) if as_published else mean
        torch.testing.assert_close(embedding.prototypes[label, 0], expected)
        assert embedding.counts[label] == len(images)


@pytest.mark.parametrize('as_published', [False, True])
def test_examples(helpers, as_published):
    """The first one of the data set, or any of them."""
    embedding = learn(
        helpers, 'fixed-example-mixture', as_published=as_published
    )
    for label, images in enumerate(images_by_class()):
        if as_published:
            images = [image.flip(1) for image in images]
        found = embedding.prototypes[label, 0]
        same = [torch.allclose(found, image) for image in images]
        assert any(same) if as_published else same[0]


def test_pipeline_of_its_own(helpers):
    found = learn(helpers, pipeline=FLIP, no_validation=True).prototypes
    assert torch.equal(found, learn(helpers).prototypes.flip(3))


def test_a_data_set_that_repeats_another(helpers):
    dataset = RepeatDataset(Few(pipeline=FLIP), 2)
    repeated = learn(helpers, dataset=dataset)
    assert repeated.counts.sum() == 80
    torch.testing.assert_close(repeated.prototypes, learn(helpers).prototypes)
    # What trains still flips.
    assert len(dataset.dataset.pipeline.transforms) == 2


def test_top_left_needs_none(helpers):
    assert learn(helpers, 'top-left').prototypes is None


def settings(tmp_path):
    return {
        'model': model_cfg('average-mixture'),
        'work_dir': str(tmp_path),
        'default_scope': 'mmpretrain',
        'train_dataloader': {
            'batch_size': 20,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': Few(pipeline=PACK),
        },
        'train_cfg': {'by_epoch': True, 'max_epochs': 4},
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'step': 'module',
            'optimizer': {'type': 'Adam', 'lr': 0.03},
        },
        'custom_hooks': [
            {'type': 'mmlocal.LocalLossHook'},
            {'type': 'mmlocal.ClassPrototypeHook', 'pipeline': FLIP},
            SeedEpochs(),
        ],
        'randomness': {'seed': 3},
        'experiment_name': tmp_path.name,
    }


@pytest.mark.parametrize('loop', ['together', 'sequential'])
def test_resume_keeps_prototypes_and_losses(run, tmp_path, loop):
    cfg = settings(tmp_path)
    if loop == 'sequential':
        cfg['train_cfg'] = {'type': 'mmlocal.SequentialTrainLoop', 'epochs': 2}
    whole, losses = run(cfg, 'whole', work_dir=str(tmp_path / 'whole'))
    run(cfg, 'stopped', until=3)
    # Others would be computed now.
    cfg['custom_hooks'][1]['pipeline'] = PACK
    resumed, rest = run(cfg, 'resumed', resume=True)
    assert len(losses) == 8 and rest == losses[6:]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    assert whole.model.embedding.known


def test_stored_features_are_refused(run, tmp_path):
    """An image has no feature without its label."""
    cfg = settings(tmp_path)
    cfg['train_cfg'] = {
        'type': 'mmlocal.SequentialTrainLoop',
        'epochs': 1,
        'cache': 'disk',
    }
    with pytest.raises(ValueError, match='remove cache'):
        run(cfg, 'cached')


def test_refused(helpers):
    with pytest.raises(ValueError, match='val_dataloader.*pipeline='):
        learn(helpers, no_validation=True)
    plain = SimpleNamespace(model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match='Linear has none: remove it'):
        ClassPrototypeHook().before_train(plain)
    dataset = list(Few(pipeline=PACK))
    with pytest.raises(ValueError, match='list has no pipeline'):
        learn(helpers, dataset=dataset)
