"""Contrastive temporal coding on several ranks."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from checks_gradients import same_on_all_ranks
from conftest import classification_batch, classifier_cfg
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner
from worker import check

# Each stage has weights that the other leaves alone.
WRAPPER = {
    'type': 'MMDistributedDataParallel',
    'find_unused_parameters': True,
    'broadcast_buffers': False,
    'device_ids': None,
}


class Images(torch.utils.data.Dataset):
    """Thirteen of three classes: the sampler gives one to both ranks."""

    metainfo = {'classes': ['a', 'b', 'c']}

    def __len__(self):
        return 13

    def get_gt_labels(self):
        return [index % 3 for index in range(13)]

    def __getitem__(self, index):
        batch = classification_batch(1, side=16, seed=index)
        (sample,) = batch['data_samples']
        sample.set_gt_label(index % 3).set_metainfo({'sample_idx': index})
        return {'inputs': batch['inputs'][0], 'data_samples': sample}


class Watch(Hook):
    """The memories are those of all ranks' images in each iteration."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.draws, self.before = [], {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model.module
        self.before = deepcopy(memories(model))
        self.draws.append(model.head.draw_seed)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        model = runner.model.module
        now = memories(model)
        assert same_on_all_ranks(now.values())
        index = [s.sample_idx for s in data_batch['data_samples']]
        all_of_them = [None] * 2
        dist.all_gather_object(all_of_them, index)
        written = {i for part in all_of_them for i in part}
        stage = ['instance'] if model.stage == 1 else ['v', 'w']
        for name, rows in now.items():
            moved = (rows != self.before[name]).any(1).nonzero().flatten()
            assert {*moved.tolist()} == (written if name in stage else set())


def memories(model):
    head = model.head
    return {
        'instance': head.instance_loss.memory.rows,
        'v': head.contrast_loss.memory_v.rows,
        'w': head.contrast_loss.memory_w.rows,
    }


@check()
def memories_of_ctc(rank: int, folder: Path) -> None:
    """Memories, constants and snapshot are equal; draws differ."""
    model = classifier_cfg({'type': 'mmlocal.CIFARResNet', 'depth': 8}, 64, 3)
    model['type'] = 'mmlocal.CTCClassifier'
    model['head'].update(
        type='mmlocal.CTCHead', num_images=13, num_negatives=4, embed_dim=8
    )
    watch = Watch()
    runner = Runner(
        model=ConfigDict(model),
        work_dir=str(folder),
        launcher='pytorch',
        default_scope='mmpretrain',
        experiment_name='memories_of_ctc',
        log_level='ERROR',
        train_dataloader={
            'batch_size': 4,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': Images(),
        },
        train_cfg={'by_epoch': True, 'max_epochs': 3},
        optim_wrapper={
            'type': 'OptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
        },
        custom_hooks=[
            {'type': 'mmlocal.CTCStageHook', 'switch_epoch': 2},
            watch,
        ],
        cfg=Config({'model_wrapper_cfg': dict(WRAPPER)}),
        randomness={'seed': 1},
    )
    runner.train()
    model = runner.model.module
    scales = model.head.contrast_loss.scales
    assert (scales > 0).all()
    assert same_on_all_ranks([scales, *model.info_bank.state_dict().values()])
    assert same_on_all_ranks(model.parameters())
    draws = [None] * 2
    dist.all_gather_object(draws, watch.draws)
    assert len({*draws[0], *draws[1]}) == 12
