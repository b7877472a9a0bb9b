"""Features of finished modules, stored and trained from."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import namedtuple
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from mmlocal.engine.loops.sequential.cached_loader import SeededDataset
from mmlocal.engine.loops.sequential.feature_file import FeatureFile

INFOPRO = {'type': 'mmlocal.InfoProHead', 'num_classes': 10}
USAGE = namedtuple('USAGE', 'total used free')


def cached(cfg, **options):
    """The same run from stored features."""
    cfg = deepcopy(cfg)
    cfg['train_cfg']['cache'] = options or 'disk'
    cfg['work_dir'] += '_cached'
    return cfg


def random_state(runner):
    """Of all that draws, and how full the disk is."""
    return torch.get_rng_state(), np.random.get_state()[1], random.random()


def assert_equal_runs(loops, cfg, options=None, exact=True, loader=None):
    if cfg['train_cfg'].get('epochs'):
        # By iterations, workers of two runs would wait for each other.
        cfg['train_dataloader'] |= loader or {}
    plain, expected = loops.train(cfg, look=random_state)
    cfg['train_dataloader'] |= loader or {}
    runner, found = loops.train(cached(cfg, **(options or {})), random_state)
    if exact:
        assert found.losses == expected.losses
        for name, value in plain.model.state_dict().items():
            assert torch.equal(runner.model.state_dict()[name], value), name
    for a, b in zip(found.losses, expected.losses, strict=True):
        assert a == pytest.approx(b, rel=2e-3)
    for a, b in zip(found.seen, expected.seen, strict=True):
        assert torch.equal(a[0], b[0]) and (a[1] == b[1]).all()
        assert a[2] == b[2]
    return runner


@pytest.mark.parametrize(
    ('kind', 'workers'),
    [
        ('epochs', 0),
        ('iters', 0),
        pytest.param('epochs', 2, marks=pytest.mark.slow),
        pytest.param('iters', 2, marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_without(cfg, loops, kind, workers):
    """Bit for bit, and the random states too."""
    loader = {'num_workers': workers, 'persistent_workers': workers > 0}
    if kind == 'iters':
        loops.by_iteration(cfg)
    cfg['optim_wrapper'] |= {
        'accumulative_counts': 3,
        'clip_grad': {'max_norm': 1.0},
    }
    cfg['custom_hooks'] += [{'type': 'EMAHook'}]
    runner = assert_equal_runs(loops, cfg, loader=loader)
    assert not Path(runner.work_dir, 'features').exists()


@pytest.mark.slow
def test_heads_get_their_pixels(cfg, loops):
    """InfoPro reconstructs the image; the last module has a head, too."""
    cfg['model']['backbone'] |= {'local_heads': INFOPRO, 'local_end': True}
    runner = assert_equal_runs(loops, cfg)
    assert 'train/local_2.loss_recon' in runner.message_hub.log_scalars


@pytest.mark.slow
def test_mixed_precision(cfg, loops):
    """Frozen modules run as they do in training."""
    cfg['optim_wrapper'] |= {
        'type': 'mmlocal.LocalAmpOptimWrapper',
        'dtype': 'bfloat16',
    }
    assert_equal_runs(loops, cfg)


@pytest.mark.slow
def test_stored_in_half_precision(cfg, loops):
    assert_equal_runs(loops, cfg, {'dtype': 'float16'}, exact=False)


@pytest.mark.slow
def test_segmentation(cfg, loops, helpers):
    model = helpers.segmentor_cfg(
        ['layer2.0', 'layer3.1'], out_indices=[3], style='pytorch'
    )
    model['decode_head']['in_index'] = 0
    batch = helpers.segmentation_batch(8)

    class Pictures(loops.Images):
        metainfo = {'classes': tuple('abcd'), 'palette': [[0] * 3] * 4}

        def __init__(self):
            self.items = [
                {'inputs': image, 'data_samples': sample}
                for image, sample in zip(*batch.values(), strict=True)
            ]

    loops.by_iteration(cfg, 3)
    cfg['train_dataloader']['dataset'] = Pictures()
    cfg |= {'model': model, 'default_scope': 'mmseg'}
    assert_equal_runs(loops, cfg)


class Watch(Hook):
    """What runs in which iteration, and which files there are."""

    def __init__(self):
        self.called, self.files = [], []

    def before_train(self, runner):
        inner = runner.model.backbone.backbone
        for name in ('conv1', 'layer2.0', 'layer3.0'):
            note = partial(self.note, runner, name)
            inner.get_submodule(name).register_forward_hook(note)

    def note(self, runner, name, module, *args):
        if torch.is_grad_enabled():
            self.called.append((runner.iter, name))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        assert {*data_batch} == {'inputs', 'data_samples'}
        folder = Path(runner.work_dir, 'features')
        self.files.append(sorted(path.name for path in folder.glob('*')))


def test_only_the_module_runs_and_one_file_is_left(cfg, loops):
    cfg = cached(cfg)
    watch = Watch()
    cfg['custom_hooks'] += [watch]
    runner, _ = loops.train(cfg)
    (watch,) = [hook for hook in runner.hooks if isinstance(hook, Watch)]
    names = ['conv1', 'layer2.0', 'layer3.0']
    assert watch.called == [(i, names[i // 8]) for i in range(24)]
    expected = [[]] * 8
    for index in (1, 2):
        name = f'outputs_of_module_{index}'
        expected += [[f'{name}.json', f'{name}.npy']] * 8
    assert watch.files == expected


@pytest.mark.parametrize('lost', [False, True])
@pytest.mark.parametrize(
    'stop', [{'epochs': n} for n in (2, 3, 5)] + [{'iters': 11}], ids=str
)
@pytest.mark.slow
def test_resumed(cfg, loops, once, stop, lost):
    """With what is stored, or without."""
    ((kind, length),) = stop.items()
    if kind == 'iters':
        loops.by_iteration(cfg)
        cfg['default_hooks']['checkpoint']['interval'] = length
    _, expected = once(kind, loops.train, cfg)
    cfg = cached(cfg)
    _, first = loops.train(cfg, stop=stop)
    folder = Path(cfg['work_dir'], 'features')
    assert folder.exists() == (stop != {'epochs': 2})
    if lost:
        shutil.rmtree(folder, ignore_errors=True)
    _, second = loops.train(cfg, resume=True)
    assert [*first.losses, *second.losses] == expected.losses


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    """Where the run of `stopped` is kept."""
    return tmp_path_factory.mktemp('original') / 'run'


@pytest.fixture
def stopped(cfg, loops, original):
    """A copy of a run that was stopped in phase 2; its file and its label."""
    cfg = cached(cfg)
    folder = Path(cfg['work_dir'])
    if not original.exists():
        loops.train(cfg, stop={'epochs': 3}, work_dir=str(original))
    shutil.copytree(original, folder)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    file = folder / 'features' / 'outputs_of_module_1.npy'
    return cfg, file, file.with_suffix('.json')


def test_what_is_stored_is_read_again(stopped, loops):
    cfg, file, label = stopped
    before = file.stat().st_mtime_ns
    _, recorder = loops.train(cfg, resume=True, stop={'epochs': 4})
    assert len(recorder.losses) == 4
    assert file.stat().st_mtime_ns == before


def test_features_are_those_of_the_modules(stopped, loops):
    cfg, file, label = stopped
    runner, _ = loops.train(cfg, resume=True, stop={'epochs': 4})
    stored = np.load(file)
    assert stored.shape == (8, 16, 32, 32)
    dataset = runner.train_dataloader.dataset
    assert dataset.metainfo == loops.Images.metainfo
    items = [dataset[index][0] for index in range(8)]
    batch = {key: [item[key] for item in items] for key in items[0]}
    model = runner.model.eval()
    data = model.data_preprocessor(batch, training=True)
    with torch.no_grad():
        feat = model.backbone.run_module(0, data['inputs'])
    torch.testing.assert_close(torch.from_numpy(stored), feat)


@pytest.mark.parametrize('what', ['part', 'label', 'fingerprint', 'weights'])
def test_what_is_not_trusted(stopped, loops, what):
    """Unfinished, or of something else: computed again."""
    cfg, file, label = stopped
    wrong = np.full_like(np.load(file), 7)
    if what == 'part':
        file.rename(file.with_suffix('.npy.part'))
    elif what == 'label':
        np.save(file, wrong)
        label.unlink()
    elif what == 'fingerprint':
        np.save(file, wrong)
        text = json.loads(label.read_text())
        label.write_text(json.dumps(text | {'fingerprint': 'other'}))
    else:
        path = Path(cfg['work_dir'], 'epoch_3.pth')
        checkpoint = torch.load(path, weights_only=False)
        checkpoint['state_dict']['backbone.bn1.running_mean'] += 1
        torch.save(checkpoint, path)
    before = file.stat().st_mtime_ns if file.exists() else None
    _, recorder = loops.train(cfg, resume=True, stop={'epochs': 4})
    assert file.stat().st_mtime_ns != before
    assert not [*file.parent.glob('*.part')]
    del cfg['train_cfg']['cache']
    path = str(Path(cfg['work_dir'], 'epoch_3.pth'))
    cfg |= {'work_dir': cfg['work_dir'] + '_plain', 'load_from': path}
    _, expected = loops.train(cfg, resume=True, stop={'epochs': 4})
    assert recorder.losses == expected.losses and len(expected.losses) == 4


class Unsteady(torch.utils.data.Dataset):
    """Images that are mirrored or not, and shifted in brightness."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        item = self.images[index]
        item['data_samples'].set_metainfo({'number': index})
        image = item['inputs']
        if random.random() < 0.5:
            image = image.flip(-1)
        noise = torch.randint(0, 5, image.shape)
        shift = int(np.random.randint(5))
        image = (image.int() + noise + shift).clamp(max=255)
        return item | {'inputs': image.byte()}


def test_random_images_are_refused(cfg, loops):
    cfg['train_dataloader']['dataset'] = Unsteady(
        cfg['train_dataloader']['dataset']
    )
    runs = []
    with pytest.raises(ValueError, match='cache=dict.as_drawn=True') as error:
        loops.train(cached(cfg), look=runs.append)
    assert 'train_dataloader.dataset draws image 0 at random' in str(error)
    assert not runs


@pytest.mark.slow
@pytest.mark.parametrize('lost', [False, True])
def test_as_drawn(cfg, loops, lost):
    """From module 1 on, all epochs see one draw, and so does a resumed run."""
    images = cfg['train_dataloader']['dataset']
    cfg['train_dataloader']['dataset'] = Unsteady(images)
    cfg['model']['backbone']['local_heads'] = INFOPRO

    class Look(Hook):
        def __init__(self):
            self.seen = {}

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            samples = zip(*data_batch.values(), strict=True)
            for image, sample in samples:
                self.seen[sample.number, runner.epoch] = image

    settings = cached(cfg, as_drawn=True)
    settings['custom_hooks'] += [Look()]
    whole, expected = loops.train(settings)
    seen = next(h.seen for h in whole.hooks if isinstance(h, Look))
    for number in range(8):
        draws = [seen[number, epoch] for epoch in range(6)]
        assert not torch.equal(draws[0], draws[1])
        assert all(torch.equal(draws[2], draw) for draw in draws[3:])
    parts = settings | {'work_dir': settings['work_dir'] + '_parts'}
    _, first = loops.train(parts, stop={'epochs': 3})
    if lost:
        shutil.rmtree(Path(parts['work_dir'], 'features'))
    _, second = loops.train(parts, resume=True)
    # Module 1 draws from a state that a checkpoint does not hold.
    assert [*first.losses, *second.losses][8:] == expected.losses[8:]


def test_images_that_no_seed_fixes_are_refused(cfg, loops):
    generator = np.random.default_rng(0)

    class Own(Unsteady):
        def __getitem__(self, index):
            item = self.images[index]
            noise = generator.integers(0, 99, item['inputs'].shape)
            return item | {'inputs': torch.from_numpy(noise).byte()}

    cfg['train_dataloader']['dataset'] = Own(
        cfg['train_dataloader']['dataset']
    )
    run = cached(cfg, as_drawn=True)
    # A copy of it would draw from a copy of the generator.
    run['train_dataloader']['dataset'] = cfg['train_dataloader']['dataset']
    with pytest.raises(ValueError, match='otherwise with the same seed'):
        loops.train(run)


def test_seeds_leave_the_random_state_alone(loops, helpers):
    dataset = SeededDataset(Unsteady(loops.Images(helpers)), seed=5)
    before = torch.get_rng_state(), random.getstate()
    first = [dataset[index]['inputs'] for index in range(8)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.rand(3)
    again = [dataset[index]['inputs'] for index in reversed(range(8))]
    for a, b in zip(first, reversed(again), strict=True):
        assert torch.equal(a, b)
    other = SeededDataset(dataset.dataset, seed=6)
    assert not torch.equal(other[0]['inputs'], first[0])


def test_batch_augments_are_refused(cfg, loops):
    augments = {'type': 'Mixup', 'alpha': 0.2}
    cfg['model']['train_cfg'] = {'augments': augments}
    with pytest.raises(ValueError, match='remove batch_augments'):
        loops.train(cached(cfg))


@pytest.mark.parametrize('stage', ['begin', 'write'])
def test_disk_too_small(cfg, loops, monkeypatch, stage):
    """8 x 16 x 32 x 32 x 4 B = 512 KiB, then half of it."""
    free = {'begin': 768 * 1024 - 1, 'write': 768 * 1024}[stage]
    monkeypatch.setattr(
        shutil, 'disk_usage', lambda path: USAGE(10**9, 0, free)
    )
    run = cached(cfg)
    if stage == 'write':

        class Fill(Hook):
            def after_train_epoch(self, runner):
                full = USAGE(10**9, 0, 512 * 1024 - 1)
                monkeypatch.setattr(shutil, 'disk_usage', lambda path: full)

        run['custom_hooks'] += [Fill()]
    steps = []
    with pytest.raises(ValueError, match='do not fit on the disk') as error:
        loops.train(run, look=steps.append)
    size = {'begin': '768.0 KiB', 'write': '512.0 KiB'}[stage]
    assert size in str(error.value) and "dtype='float16'" in str(error.value)
    assert len(steps) == {'begin': 0, 'write': 8}[stage]
    (log,) = Path(run['work_dir']).glob('*/*.log')
    text = 'features of finished modules will take 512.0 KiB, 256.0 KiB in '
    assert text in log.read_text()


def test_another_folder(cfg, loops, tmp_path):
    run = cached(cfg, dir=str(tmp_path / 'fast'))
    loops.train(run, stop={'epochs': 3})
    folder = tmp_path / 'fast' / 'run_cached' / 'features'
    assert (folder / 'outputs_of_module_1.npy').exists()
    assert not Path(run['work_dir'], 'features').exists()


def test_a_backbone_that_is_no_chain_is_refused(cfg, loops, helpers):
    swin = {
        'type': 'SwinTransformer',
        'arch': {'embed_dims': 8, 'depths': [1, 1], 'num_heads': [1, 2]},
        'img_size': 32,
        'window_size': 4,
        'out_indices': [1],
    }
    cfg['model']['backbone'] |= {'backbone': swin, 'boundaries': ['stages.1']}
    cfg['model'] = helpers.classifier_cfg(cfg['model']['backbone'], 16)
    with pytest.raises(ValueError, match='SwinTransformer is no chain'):
        loops.train(cached(cfg))


@pytest.mark.parametrize(
    ('cache', 'message'),
    [
        ('ram', "cache='ram': write 'disk', or a dict of as_drawn, dir, dty"),
        ({'folder': 'x'}, "write 'disk', or a dict of"),
        ({'dtype': 'int8'}, "cache.dtype='int8': write one of .'float16'"),
    ],
)
def test_what_is_no_cache_is_refused(cfg, loops, cache, message):
    cfg['train_cfg']['cache'] = cache
    with pytest.raises(ValueError, match=message):
        loops.train(cfg)


def test_images_of_several_sizes_are_refused(cfg, loops):
    images = cfg['train_dataloader']['dataset'].items
    images[5]['inputs'] = images[5]['inputs'][:, :16, :16]
    cfg['train_dataloader']['batch_size'] = 1
    with pytest.raises(ValueError, match='features of all images need one'):
        loops.train(cached(cfg))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_file(tmp_path, dtype):
    file = FeatureFile(tmp_path / 'a' / 'b.npy', 5, (2, 3), dtype)
    feats = torch.randn(5, 2, 3).to(dtype)
    file.create()
    assert file.part.stat().st_size == file.nbytes + 128
    file.write([3, 1], feats[[3, 1]])
    file.write([0, 2, 4], feats[[0, 2, 4]])
    file.flush()
    assert not file.holds('x')
    file.complete('x')
    assert file.holds('x') and not file.holds('y')
    assert torch.equal(file[2], feats[2]) and len(file) == 5
    assert torch.equal(file[[4, 0]], feats[[4, 0]])
    assert not FeatureFile(file.path, 5, (3, 2), dtype).holds('x')
    file.create()
    assert not file.holds('x')
    file.remove()
    assert not [*file.path.parent.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize('when', ['storing', 'training'])
def test_killed_in_the_second_phase(cfg, loops, once, fresh_python, when):
    """By SIGKILL, in a process of its own; resumed, as if nothing was."""
    cfg['train_cfg']['cache'] = 'disk'
    script = Path(__file__).with_name('killed.py')
    worker = fresh_python.run(script, cfg['work_dir'], when)
    assert worker.returncode == -signal.SIGKILL, worker.stderr[-3000:]
    names = {path.name for path in Path(cfg['work_dir'], 'features').iterdir()}
    stored = 'outputs_of_module_1.'
    if when == 'storing':
        assert names == {stored + 'npy.part'}
    else:
        assert names == {stored + 'npy', stored + 'json'}
    runner, second = loops.train(cfg, resume=True)
    work_dir = cfg['work_dir'] + '_whole'
    whole, expected = once('whole', loops.train, cfg, work_dir=work_dir)
    begun = 8 if when == 'storing' else 12
    assert second.losses == expected.losses[begun:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[name], value), name
