"""Runs a validation loop on a model."""

from __future__ import annotations

import logging
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmlocal.registry import LOOPS

TYPES = {'val': 'mmlocal.LocalValLoop', 'test': 'mmlocal.LocalTestLoop'}


class Items(torch.utils.data.Dataset):
    """A batch, item by item."""

    metainfo = {'classes': [str(i) for i in range(4)]}

    def __init__(self, batch):
        self.items = [
            {'inputs': image, 'data_samples': sample}
            for image, sample in zip(*batch.values(), strict=True)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return deepcopy(self.items[index])


class Keep(BaseMetric):
    """Keeps the data samples as metrics get them."""

    default_prefix = 'keep'

    def process(self, data_batch, data_samples):
        self.results.extend(deepcopy(data_samples))

    def compute_metrics(self, results):
        self.kept = results
        return {}


@pytest.fixture
def run():
    """Run a loop: metrics, and the data samples as metrics got them."""

    def run(model, batch, evaluator, stage='val', batch_size=1, **cfg):
        scope = 'mmseg' if hasattr(model, 'decode_head') else 'mmpretrain'
        init_default_scope(scope)
        keep, hooks = Keep(), []
        loop = LOOPS.build(
            {'type': TYPES[stage], **cfg},
            default_args={
                'runner': SimpleNamespace(
                    model=model,
                    visualizer=SimpleNamespace(),
                    call_hook=lambda name, **kwargs: hooks.append(name),
                ),
                'dataloader': torch.utils.data.DataLoader(
                    Items(batch), batch_size, collate_fn=collate
                ),
                'evaluator': Evaluator([*evaluator, keep]),
            },
        )
        metrics = loop.run()
        iters = [name for name in hooks if 'iter' in name]
        names = [f'before_{stage}_iter', f'after_{stage}_iter']
        assert iters == names * -(-len(keep.kept) // batch_size)
        return metrics, keep.kept

    return run


def collate(items):
    return {key: [item[key] for item in items] for key in items[0]}


@pytest.fixture
def settle():
    """Makes scores differ from image to image and module to module."""

    def settle(model):
        generator = torch.Generator().manual_seed(5)
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and ('fc' in name or 'conv_seg' in name):
                torch.nn.init.normal_(weight, 0, 0.3, generator=generator)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.weight.data.uniform_(0.5, 2, generator=generator)
        return model

    return settle


@pytest.fixture
def log(caplog, request):
    """What is logged."""
    logger = MMLogger.get_instance(request.node.name, log_level='INFO')
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
