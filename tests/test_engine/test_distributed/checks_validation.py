"""Validation of each module on two ranks and in one process."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from checks_gradients import segmentor
from conftest import build, segmentation_batch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch.utils.data import DataLoader
from worker import check

from mmlocal.step import local_backbone, unwrap

METRICS = [
    {'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
    {'type': 'mmlocal.PerModuleIoU', 'iou_metrics': ['mIoU']},
]


class Images(torch.utils.data.Dataset):
    metainfo = {'classes': ('a', 'b', 'c', 'd')}

    def __len__(self):
        return 5  # one less than the samplers hand out

    def __getitem__(self, index):
        batch = segmentation_batch(1, seed=index)
        return {key: value[0] for key, value in batch.items()}


def loader(**options) -> DataLoader:
    return DataLoader(Images(), 2, collate_fn=pseudo_collate, **options)


@check()
def validation_of_modules(rank: int, folder: Path) -> None:
    """The same metrics, for all modules and while the first one trains."""
    cfg = segmentor()
    cfg['test_cfg'] = {'mode': 'whole'}
    runner = Runner(
        model=deepcopy(build(cfg)),
        work_dir=str(folder),
        launcher='pytorch',
        default_scope='mmseg',
        experiment_name=folder.name,
        log_level='ERROR',
        val_dataloader=loader(sampler=DefaultSampler(Images(), False)),
        val_cfg={'type': 'mmlocal.LocalValLoop'},
        val_evaluator=METRICS,
        cfg=Config(
            {
                'model_wrapper_cfg': {
                    'type': 'mmlocal.LocalDistributedDataParallel'
                }
            }
        ),
    )
    model = unwrap(runner.model)
    assert model is not runner.model
    for only, modules in (None, 3), (0, 1):
        local_backbone(model).train_only(only)
        found = runner.val()
        names = {key.partition('/')[0] for key in found}
        read = [f'module_{i + 1}' for i in range(modules)]
        assert {name for name in names if 'module_' in name} == {*read}
        assert found == alone(runner, model)
        every = [None, None]
        dist.all_gather_object(every, found)
        assert every[0] == every[1]


def alone(runner: Runner, model: torch.nn.Module) -> dict:
    """On all images in one process, whose metrics collect nothing."""
    loop = runner.val_loop
    evaluator = Evaluator(deepcopy(METRICS))
    evaluator.dataset_meta = Images.metainfo
    before, loop.evaluator = loop.evaluator, evaluator
    for index, batch in enumerate(loader(shuffle=False)):
        loop.run_iter(index, batch)
    loop.evaluator = before
    values = {}
    for metric in evaluator.metrics:
        values.update(metric.compute_metrics(metric.results))
    return values
