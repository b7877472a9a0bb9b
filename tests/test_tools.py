"""tools/train.py and tools/test.py, up to the runner."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmlocal.apis import cli
from mmlocal.apis.cli import cpu_ranks
from mmlocal.apis.zoo.checkpoints import load_checkpoint
from mmlocal.partition import MemoryBalanced

ROOT = Path(__file__).parents[1]
SEG = str(ROOT / 'configs/infopro/deeplabv3_r18_shapes.py')
CLS = str(ROOT / 'configs/infopro/resnet20_shapes.py')
E2E = str(ROOT / 'configs/e2e/deeplabv3_r18_shapes.py')
GREEDY = str(ROOT / 'configs/greedy/deeplabv3_r18_shapes.py')
CITYSCAPES = str(ROOT / 'configs/infopro/deeplabv3_r101_cityscapes.py')


def tool(name: str):
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tools_{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAIN, TEST, PLAN = tool('train'), tool('test'), tool('plan_memory')


def parse(module, *argv: str) -> Config:
    return module.make_config(module.make_parser().parse_args(argv))


def error(capsys, module, *argv: str) -> str:
    """What a user reads, in one line, before the tool ends."""
    with pytest.raises(SystemExit) as info:
        module.main(argv)
    assert info.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'weights.pth'
    path.touch()
    return str(path)


def test_twins_do_not_share_a_work_dir():
    assert parse(TRAIN, SEG).work_dir == 'work_dirs/infopro/' + Path(SEG).stem
    assert parse(TRAIN, E2E).work_dir == 'work_dirs/e2e/' + Path(E2E).stem
    assert parse(TRAIN, SEG, '--work-dir', 'there').work_dir == 'there'


def test_options_reach_the_config():
    cfg = parse(
        TRAIN,
        SEG,
        '--cfg-options',
        'train_dataloader.batch_size=4',
        'param_scheduler.0.power=1.0',
        'model.backbone.boundaries=[layer2.0,layer3.0]',
        'randomness.deterministic=True',
        'model.backbone.backbone.with_cp=True',
        'custom_hooks.0.priority=VERY_LOW',
    )
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.param_scheduler[0].power == 1.0
    assert cfg.model.backbone.boundaries == ['layer2.0', 'layer3.0']
    assert cfg.randomness.deterministic is True
    assert cfg.model.backbone.backbone.with_cp is True


@pytest.mark.parametrize(
    ('config', 'wrapper'),
    [
        (SEG, 'mmlocal.LocalAmpOptimWrapper'),
        (CLS, 'mmlocal.LocalAmpOptimWrapper'),
        (E2E, 'AmpOptimWrapper'),
    ],
)
def test_amp(config, wrapper, monkeypatch):
    monkeypatch.setattr(cli.run, 'get_device', lambda: 'cuda')
    plain, amp = parse(TRAIN, config), parse(TRAIN, config, '--amp')
    assert amp.optim_wrapper == {**plain.optim_wrapper, 'type': wrapper}
    # Twice is as good as once.
    TRAIN.cli.use_amp(amp)
    assert amp.optim_wrapper.type == wrapper


def test_amp_on_cpu_is_for_local_training_only(monkeypatch, capsys):
    monkeypatch.setattr(cli.run, 'get_device', lambda: 'cpu')
    local = parse(TRAIN, SEG, '--amp')
    assert local.optim_wrapper.type == 'mmlocal.LocalAmpOptimWrapper'
    message = error(capsys, TRAIN, E2E, '--amp')
    assert 'mmlocal.LocalOptimWrapper' in message


def test_amp_of_another_wrapper(capsys):
    message = error(
        capsys,
        TRAIN,
        SEG,
        '--amp',
        '--cfg-options',
        'optim_wrapper.type=ApexOptimWrapper',
    )
    assert 'ApexOptimWrapper has no variant' in message


def test_resume(checkpoint):
    assert parse(TRAIN, SEG).resume is False
    latest = parse(TRAIN, SEG, '--resume')
    assert (latest.resume, latest.load_from) == (True, None)
    assert parse(TRAIN, SEG, '--resume', 'auto').load_from is None
    named = parse(TRAIN, SEG, '--resume', checkpoint)
    assert (named.resume, named.load_from) == (True, checkpoint)


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['nowhere.py'], ['no file nowhere.py']),
        ([SEG.replace('r18', 'r17')], ['did you mean', SEG]),
        ([SEG, '--resume', 'lost.pth'], ['no file lost.pth']),
        (
            [SEG, '--cfg-options', 'optim_wraper.optimizer.lr=1'],
            ['did you mean optim_wrapper'],
        ),
        (
            [SEG, '--cfg-options', 'train_dataloader.batch_sise=1'],
            ["did you mean 'batch_size'"],
        ),
        (
            [CITYSCAPES, '--cfg-options', 'data_root=elsewhere'],
            ['train_dataloader.dataset.data_root', 'val_dataloader.dataset'],
        ),
        (
            [SEG, '--cfg-options', 'randomness.seed'],
            ['write randomness.seed=VALUE'],
        ),
        (
            [SEG, '--cfg-options', 'model.backbone.boundaries=3'],
            ['boundaries=3 is a whole number'],
        ),
        (
            [SEG, '--cfg-options', 'param_scheduler.3.power=1'],
            ['param_scheduler is a list of 1'],
        ),
        (
            [SEG, '--cfg-options', 'log_level.min=1'],
            ["log_level is 'INFO'"],
        ),
    ],
)
def test_mistakes_end_in_a_line_that_helps(argv, words, capsys):
    message = error(capsys, TRAIN, *argv)
    for word in words:
        assert word in message


def test_missing_data_names_folder_and_source(capsys):
    option = 'train_dataloader.dataset.data_root=/nowhere'
    with pytest.raises(SystemExit):
        TRAIN.main([CITYSCAPES, '--cfg-options', option])
    message = capsys.readouterr().err
    assert '/nowhere/leftImg8bit/train' in message
    assert 'cityscapes-dataset.com' in message


def test_test_needs_a_checkpoint(capsys):
    message = error(capsys, TEST, SEG, 'lost.pth')
    assert 'no file lost.pth' in message


def test_checkpoints_may_be_elsewhere():
    url = 'https://example.org/weights.pth'
    assert parse(TEST, SEG, url).load_from == url


def test_tta_of_segmentation(checkpoint):
    cfg = parse(TEST, SEG, checkpoint, '--tta')
    views = cfg.test_dataloader.dataset.pipeline[1]
    assert views.type == 'TestTimeAug'
    ratios = [resize.scale_factor for resize in views.transforms[0]]
    assert ratios == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert cfg.model.type == 'SegTTAModel'
    assert cfg.model.module == parse(TEST, SEG, checkpoint).model


def test_tta_of_a_config_with_a_scope_of_its_own():
    # As mmengine reads `_base_ = 'mmseg::...'`.
    cfg = Config.fromfile(SEG)
    cfg.tta_model._scope_ = 'mmseg'
    TEST.use_tta(cfg)
    assert cfg.model._scope_ == 'mmseg'
    assert cfg.model.module.type == 'EncoderDecoder'


def test_tta_of_classification(checkpoint):
    cfg = parse(TEST, CLS, checkpoint, '--tta')
    flips = cfg.test_dataloader.dataset.pipeline[-1].transforms[0]
    assert [flip.prob for flip in flips] == [0.0, 1.0]
    assert cfg.model.type == 'AverageClsScoreTTA'


def test_predictions_are_kept(checkpoint, capsys):
    cfg = parse(TEST, SEG, checkpoint, '--out', 'masks')
    iou, per_module = cfg.test_evaluator
    assert iou.output_dir == 'masks' and 'output_dir' not in per_module
    cfg = parse(TEST, CLS, checkpoint, '--out', 'scores.pkl')
    types = [metric.type for metric in cfg.test_evaluator]
    assert types == ['Accuracy', 'mmlocal.PerModuleAccuracy', 'DumpResults']
    assert 'ends in .pkl' in error(
        capsys, TEST, CLS, checkpoint, '--out', 'scores'
    )


def test_predictions_are_drawn(checkpoint, capsys):
    cfg = parse(TEST, SEG, checkpoint, '--show-dir', 'drawn')
    assert cfg.default_hooks.visualization.draw is True
    assert cfg.visualizer.save_dir == 'drawn'
    cfg = parse(TEST, CLS, checkpoint, '--show-dir', 'drawn')
    hook = cfg.default_hooks.visualization
    assert (hook.enable, hook.out_dir, hook.interval) == (True, 'drawn', 1)
    message = error(
        capsys, TEST, CLS, checkpoint, '--tta', '--show-dir', 'drawn'
    )
    assert 'leave out --tta' in message


@pytest.mark.parametrize('tta', [[], ['--tta']])
@pytest.mark.parametrize('config', [CLS, E2E])
def test_weights_of_something_else_are_not_tested(config, tta, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': {'conv1.weight': torch.ones(3)}}, path)
    options = {
        'test_dataloader.dataset.num_images': 1,
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
    }
    with pytest.raises(ValueError, match='none of its 1 tensors .* fits'):
        TEST.main(
            [config, str(path), *tta, '--work-dir', str(tmp_path)]
            + ['--cfg-options']
            + [f'{key}={value}' for key, value in options.items()]
        )


def test_pytorch_launcher_without_torchrun(monkeypatch, capsys):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr(cpu_ranks, 'get_device', lambda: 'cpu')
    message = error(capsys, TRAIN, SEG, '--launcher', 'pytorch')
    assert 'tools/dist_train.sh' in message


@pytest.mark.parametrize(
    'script', sorted(path.name for path in ROOT.glob('tools/*_*.sh'))
)
def test_scripts_say_how_they_are_used(script):
    path = ROOT / 'tools' / script
    result = subprocess.run(
        ['bash', path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f'Usage: tools/{script} ')
    assert path.stat().st_mode & 0o111


@pytest.fixture
def groups(monkeypatch):
    """Process groups that a machine without GPU would start."""
    started = []
    monkeypatch.setattr(
        cpu_ranks.dist,
        'init_process_group',
        lambda *args, **kwargs: started.append((*args, kwargs['timeout'])),
    )
    monkeypatch.setattr(cpu_ranks, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(TRAIN.cli, 'check_data', lambda *args: None)
    return started


def test_cpu_ranks_use_gloo_and_no_syncbn(monkeypatch, groups):
    monkeypatch.setenv('RANK', '0')
    cfg = TRAIN.cli.parse_config(
        TRAIN.make_parser(),
        TRAIN.make_config,
        [CITYSCAPES, '--launcher', 'pytorch']
        + ['--cfg-options', 'env_cfg.dist_cfg.timeout=90'],
    )
    assert groups == [('gloo', timedelta(seconds=90))]
    wrapper = {'type': 'mmlocal.LocalDistributedDataParallel'}
    assert cfg.model_wrapper_cfg == wrapper
    assert 'SyncBN' not in str(cfg.model)
    assert cfg.model.decode_head.norm_cfg.type == 'BN'


def test_cpu_ranks_of_other_configs_use_ddp(monkeypatch, groups):
    monkeypatch.setenv('RANK', '0')
    cfg = parse(TRAIN, E2E, '--launcher', 'pytorch')
    cpu_ranks.prepare_cpu_ranks(cfg)
    assert groups == [('gloo', None)]
    assert cfg.model_wrapper_cfg == {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': False,
        'device_ids': None,
    }


def test_cpu_ranks_of_slurm(monkeypatch, groups, tmp_path):
    variables = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')
    for name in (*variables, 'MASTER_PORT', 'SLURM_PROCID'):
        monkeypatch.setenv(name, '')  # restored afterwards
        monkeypatch.delenv(name)
    cfg = parse(TRAIN, E2E, '--launcher', 'slurm')
    with pytest.raises(ValueError, match='tools/slurm_train.sh'):
        cpu_ranks.prepare_cpu_ranks(cfg)
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho "$3"0 "$3"1\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('SLURM_PROCID', '3')
    monkeypatch.setenv('SLURM_NTASKS', '4')
    monkeypatch.setenv('SLURM_LOCALID', '1')
    monkeypatch.setenv('SLURM_NODELIST', 'node')
    cpu_ranks.prepare_cpu_ranks(cfg)
    assert [os.environ[name] for name in variables] == ['3', '4', '1', 'node0']
    assert groups == [('gloo', None)]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def environment():
    """In which the launchers run this interpreter."""
    return {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}


SMALL = {
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.persistent_workers': False,
    'train_dataloader.batch_size': 4,
    'train_dataloader.dataset.num_images': 16,
    'val_dataloader.dataset.num_images': 4,
    'train_cfg.val_interval': 1,
    'default_hooks.logger.interval': 1,
}


PLANNED = ['model.backbone.boundaries.type=mmlocal.MemoryBalanced']


def start(script, *arguments, **variables):
    """A launcher of tools/, from which `output_of` reads."""
    return subprocess.Popen(
        [ROOT / 'tools' / script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment(), 'PORT': free_port(), **variables},
    )


MEET = """
import torch
import torch.distributed as dist

dist.init_process_group('gloo')
total = torch.tensor(float(dist.get_rank()))
dist.all_reduce(total)
print(f'rank {dist.get_rank()} of {dist.get_world_size()}: {total}')
dist.barrier()
dist.destroy_process_group()
"""


def output_of(process) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope='module')
def first_epoch(tmp_path_factory):
    """An epoch of two ranks with a planned split: its folder and output."""
    folder = tmp_path_factory.mktemp('first_epoch')
    small = {**SMALL, 'train_cfg.max_epochs': 1}
    ranks = start(
        *('dist_train.sh', CLS, '2', '--work-dir', folder, '--cfg-options'),
        *(f'{key}={value}' for key, value in small.items()),
        *PLANNED,
    )
    return folder, output_of(ranks)


@pytest.fixture
def trained(first_epoch, tmp_path):
    """A copy: its folder, checkpoint and dumped config."""
    shutil.copytree(first_epoch[0], tmp_path, dirs_exist_ok=True)
    # The next run keeps its own checkpoint and config alone.
    weights = shutil.move(tmp_path / 'epoch_1.pth', f'{tmp_path}/weights.pth')
    dumped = shutil.move(tmp_path / Path(CLS).name, f'{tmp_path}/dumped.py')
    return tmp_path, weights, dumped


@pytest.mark.slow
def test_cpu_processes(first_epoch):
    """torchrun, gloo, the wrapper of the config; validation, checkpoint."""
    folder, output = first_epoch
    assert 'Epoch(train) [1][2/2]' in output
    assert 'local_0.loss_recon' in output
    assert 'Epoch(val) [1]' in output and 'accuracy/top1' in output
    assert (folder / 'epoch_1.pth').is_file()
    assert "type='mmlocal.LocalDistributedDataParallel'" in output


@pytest.mark.slow
def test_machines_that_meet(tmp_path):
    """Two 'machines' of one process find each other; what they would train
    with is tested on one."""
    script = tmp_path / 'meet.py'
    script.write_text(MEET)
    meet = {'NNODES': '2', 'PORT': free_port(), 'MASTER_ADDR': '127.0.0.1'}
    nodes = [start('torchrun.sh', '1', script, **meet) for _ in range(2)]
    outputs = [output_of(node) for node in nodes]
    assert all('until all 2 machines' in output for output in outputs)
    for rank in '01':
        found = [f'rank {rank} of 2: 1.0' in output for output in outputs]
        assert sorted(found) == [False, True]


@pytest.mark.slow
def test_a_planned_split(first_epoch, trained, monkeypatch):
    """Planned before two ranks train; then resumed by one process, which says
    that the batch is another, and tested: from the config and from the one
    that was dumped."""
    _, output = first_epoch
    folder, weights, dumped = trained
    assert output.count('planning where to cut') == 1
    assert 'MemoryBalanced' not in output
    plan = json.loads((folder / 'memory_plan.json').read_text())
    kept = load_checkpoint(weights)['meta']['cfg']
    for cfg in (Config.fromstring(kept, '.py'), Config.fromfile(dumped)):
        backbone = cfg.model.backbone
        assert backbone.boundaries == plan['split']['boundaries']
        assert backbone.checkpointing == plan['split']['checkpointing']

    def fail(*args):
        raise AssertionError('planned again')

    monkeypatch.setattr(MemoryBalanced, 'plan', fail)
    small = [f'{key}={value}' for key, value in SMALL.items()]
    small += ['test_dataloader.dataset.num_images=4']
    last = {}
    for config, options in ((CLS, small + PLANNED), (dumped, small)):
        there = ['--work-dir', str(folder), '--cfg-options', *options]
        there += ['train_cfg.max_epochs=2']
        TRAIN.main([config, '--resume', weights, *there])
        log = max(folder.glob('*/*.log'), key=os.path.getmtime).read_text()
        assert (
            'changed: 4 images (1 ranks of 4), where the checkpoint was '
            'trained with 8 (2 ranks of 4)'
        ) in log
        TEST.main([config, weights, '--tta', *there])
        last[config] = load_checkpoint(folder / 'epoch_2.pth')['state_dict']
    for name, value in last[CLS].items():
        assert torch.equal(last[dumped][name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason='NCCL needs a GPU')
@pytest.mark.parametrize('own_group', [False, True])
def test_one_gpu(tmp_path, own_group):
    """NCCL with SyncBN and mixed precision, in one process."""
    options = [
        'train_cfg.max_iters=6',
        'train_cfg.val_interval=6',
        'train_dataloader.dataset.num_images=16',
        'val_dataloader.dataset.num_images=4',
        f'model_wrapper_cfg.own_group={own_group}',
        f'model_wrapper_cfg.compression={"bf16" if own_group else None}',
    ]
    result = subprocess.run(
        [ROOT / 'tools/dist_train.sh', GREEDY, '1', '--amp']
        + ['--work-dir', tmp_path, '--cfg-options', *options],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), 'PORT': free_port()},
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-3000:]
    assert "type='SyncBN'" in output
    assert (tmp_path / 'iter_6.pth').is_file()


@pytest.mark.slow
def test_plan_memory(capsys, tmp_path):
    """Table, answer, lines to paste, JSON and picture."""
    PLAN.main(
        [
            CLS,
            '--batch-size=16',
            '--max-modules=2',
            '--budget=0.7',
            '--ranks=4',
            f'--out={tmp_path / "plan.json"}',
            f'--plot={tmp_path / "plan.png"}',
        ]
    )
    text = capsys.readouterr().out
    assert '16 images of 32x32, float32, SGD' in text
    assert 'this config' in text
    assert 'Fits into' in text
    assert 'Largest batch that fits' in text
    assert 'One of 4 GPUs' in text
    found = json.loads((tmp_path / 'plan.json').read_text())
    assert len(found['rows']) == 9
    assert found['plan']['peak'] <= found['budget']
    assert repr(found['plan']['boundaries']) in text
    assert found['ranks']['LocalFSDP']['peak'] < found['plan']['peak']
    assert (tmp_path / 'plan.png').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['--budget', '10 parsecs'], "is no size; write '10GiB'"),
        (['--cfg-options', 'modle.type=X'], 'did you mean model'),
    ],
)
def test_plans_that_cannot_be_made(argv, words, capsys):
    assert words in error(capsys, PLAN, CLS, *argv)


def test_plan_memory_needs_a_crop_size(capsys, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        f'_base_ = {CITYSCAPES!r}\n'
        'model = dict(data_preprocessor=dict(size=None))\n'
        'train_pipeline = []\n'
        'train_dataloader = dict(dataset=dict(pipeline=[]))\n'
    )
    found = error(capsys, PLAN, str(path))
    assert 'give --crop-size HEIGHT WIDTH' in found
