"""What one stock config goes through, step by step."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmlocal.fake_tensors import tensors_of
from mmlocal.models.checkpointing import MODES
from mmlocal.models.cut_points import CutPoints, Split, summarize
from mmlocal.planner import Planner, Simulator, TrainingSetting
from mmlocal.planner.batch import (
    channels_of,
    image_size_of,
    make_batch,
    task_of,
    train_pipeline_of,
)
from mmlocal.planner.training_setting import (
    propose_heads,
    without_downloads,
)
from mmlocal.registry import MODELS

from .configs import StockConfig, kind_of, resize, shrink
from .gradients import (
    Gradients,
    end_to_end_gradients,
    in_float64,
    largest_difference,
    local_gradients,
    oracle_gradients,
)

OVER_LIMIT = 'over the memory limit'
OUT_OF_MEMORY = ('not enough memory', 'allocate memory')
BATCH_SIZE = 2
# Sums of float32 in another order.
TOLERANCE = 1e-4
BUDGET = 0.6
CHECKS = (
    'trains',
    'plan',
    'budget',
    'cut',
    'greedy',
    'block',
    'selective',
    'infopro',
)


class Case:
    """One config; each check runs if those that it needs went well.

    Args:
        config (StockConfig): Which.
        save (Callable[[dict], None]): Is given all results so far.
        only (Collection[str], optional): Of :data:`CHECKS`; None for all.

    Attributes:
        result (dict): JSON's types; ``checks`` has a dict a check.
    """

    def __init__(
        self,
        config: StockConfig,
        save: Callable[[dict], None],
        only: Collection[str] | None = None,
    ):
        self.config, self.save = config, save
        self.only = CHECKS if only is None else only
        self.result: dict[str, Any] = {
            'config': config.name,
            'family': config.family,
            'checks': {},
        }

    def run(self) -> dict[str, Any]:
        """All checks."""
        if not self._check('config', self._read):
            return self.result
        if 'trains' in self.only and not self._check(
            'trains', self._end_to_end
        ):
            return self.result
        if 'plan' in self.only and self._check('plan', self._plan):
            self._check_if_asked('budget', self._budget)
        self.planner = None
        if 'cut' in self.only and self._check('cut', self._cut):
            self._check_if_asked('greedy', self._greedy)
            for mode in MODES[1:]:
                self._check_if_asked(mode, partial(self._recompute, mode))
            self._check_if_asked('infopro', self._infopro)
        return self.result

    def _check_if_asked(self, name: str, run: Callable[[], dict]) -> None:
        if name in self.only:
            self._check(name, run)

    def _check(self, name: str, run: Callable[[], dict | None]) -> bool:
        self.result['checks'][name] = {'status': 'did not end'}
        self.save(self.result)
        begin = time.process_time()
        try:
            found = {'status': 'ok', **(run() or {})}
        except ValueError as error:
            found = {'status': 'refused', 'reason': str(error)}
            found['trace'] = traceback.format_exc(limit=-4)
        except MemoryError:
            found = {'status': 'memory', 'reason': OVER_LIMIT}
        except Exception as error:
            found = {'status': 'failed', 'reason': repr(error)}
            found['trace'] = traceback.format_exc(limit=-6)
            if any(words in found['reason'] for words in OUT_OF_MEMORY):
                found.update(status='memory', reason=OVER_LIMIT)
        found['seconds'] = round(time.process_time() - begin, 1)
        self.result['checks'][name] = found
        self.save(self.result)
        return found['status'] == 'ok'

    def _read(self) -> dict:
        self.cfg = self.config.load()
        # Some configs name none, and are of their library all the same.
        self.cfg.setdefault('default_scope', self.config.library)
        init_default_scope(self.cfg.default_scope)
        self.cfg.model = without_downloads(deepcopy(self.cfg.model))
        self.cfg.model.pop('pretrained', None)
        if self.cfg.get('data_preprocessor') is not None:
            # As Runner does.
            self.cfg.model.setdefault(
                'data_preprocessor', self.cfg.data_preprocessor
            )
        self.size = shrink(self.cfg)
        self.result |= {
            'backbone': kind_of(self.cfg),
            'model': str(self.cfg.model.type),
            'image_size': list(self.size),
        }
        return {}

    def _end_to_end(self) -> dict:
        model = _built(self.cfg.model)
        count = sum(weight.numel() for weight in model.parameters())
        self.result['parameters'] = count
        try:
            gradients = end_to_end_gradients(model, self._batch())
        except Exception as error:
            # Some take one size alone, or none that is small.
            try:
                self.size = image_size_of(self.config.load())
            except ValueError:
                raise error from None
            self.result['image_size'] = list(self.size)
            resize(self.cfg, self.size)
            model = _built(self.cfg.model)
            gradients = end_to_end_gradients(model, self._batch())
        # Pipelines that make views and masks have sizes of their own.
        image = tensors_of(self._batch()['inputs'])[0]
        self.size = tuple(image.shape[-2:])
        self.result['image_size'] = list(self.size)
        return {'weights_with_gradient': len(gradients)}

    def _plan(self) -> dict:
        # As it is shipped: on fake tensors its size costs nothing.
        setting = TrainingSetting(self.config.load())
        self.planner = Planner(Simulator(setting))
        self.result['planned_for'] = {
            'batch_size': setting.batch_size,
            'image_size': list(setting.image_size),
            'precision': setting.precision,
        }
        names = self.planner.simulator.candidates
        self.result['places'] = summarize(names)
        self.result['num_places'] = len(names)
        base = self.planner.end_to_end
        best = self.planner.balanced(2)
        plans = [
            self.planner.search.ranked(count)[0]
            for count in (2, 3, 4)
            if count <= len(names) + 1
        ]
        return {
            'end_to_end': base.peak,
            'measured': round(best.peak / base.peak, 3),
            'plans': [
                {
                    'boundaries': list(plan.split.boundaries),
                    'share': round(plan.peak / base.peak, 3),
                    'compute': round(plan.extra_flops / base.total_flops, 3),
                }
                for plan in plans
            ],
        }

    def _budget(self) -> dict:
        peak = self.planner.end_to_end.peak
        found, fits = self.planner.within(int(BUDGET * peak))
        batch = self.planner.largest_batch(found.split, int(BUDGET * peak))
        if fits != (found.peak <= int(BUDGET * peak)):
            raise RuntimeError('what is said to fit does not')
        return {
            'fits': fits,
            'share': round(found.peak / peak, 3),
            'split': found.split.describe(),
            'largest_batch': batch,
        }

    def _cut(self) -> dict:
        self.setting = TrainingSetting(
            self.cfg, BATCH_SIZE, image_size=self.size, device='cpu'
        )
        self.heads = head_cfgs(self.cfg.model, self.setting.task)
        self.model = self._local_model('greedy')
        return {'boundaries': list(self.model.backbone.boundaries)}

    def _local_model(self, head: str) -> nn.Module:
        model = deepcopy(self.setting.model)
        model['backbone'] |= {
            'boundaries': {'type': 'mmlocal.EqualDepth', 'num_modules': 2},
            'local_heads': self.heads[head],
            'input_shape': self.setting.input_shape,
        }
        return _built(model)

    def _greedy(self) -> dict:
        return self._compared(self._as_oracle)

    def _recompute(self, mode: str) -> dict:
        return self._compared(partial(self._as_without, mode))

    def _infopro(self) -> dict:
        # Built anew: models with a momentum encoder copy the heads, too.
        self.model = None
        self.model = self._local_model('infopro')
        return self._compared(self._as_oracle)

    def _as_oracle(self) -> tuple[Gradients, Gradients]:
        batch = self._batch()
        found = local_gradients(self.model, batch)
        return found, oracle_gradients(self.model, batch)

    def _as_without(self, mode: str) -> tuple[Gradients, Gradients]:
        batch, backbone = self._batch(), self.model.backbone
        points = CutPoints(backbone.backbone, self.setting.input_shape)
        found = []
        for each in (mode, None):
            split = Split(backbone.boundaries, each)
            backbone.set_split(split, backbone.local_heads, points)
            found.append(local_gradients(self.model, batch))
        return tuple(found)

    def _compared(
        self, gradients: Callable[[], tuple[Gradients, Gradients]]
    ) -> dict:
        """Hold gradients to expected ones, in float64 if float32 differs."""
        found, expected = gradients()
        name, difference = largest_difference(found, expected)
        result = {'weights': len(expected)}
        if not difference <= TOLERANCE:
            result['float32'] = difference
            # Not all models can: some make float32 of what they are given.
            with suppress(RuntimeError), in_float64(self.model):
                name, difference = largest_difference(*gradients())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f'gradients differ by {difference:.2g} of the largest at '
                f'{name}'
            )
        return {**result, 'difference': difference}

    def _batch(self) -> dict:
        return noise_batch(self.cfg, BATCH_SIZE, self.size)


def head_cfgs(model: dict, task: str) -> dict[str, dict]:
    """A greedy head and that of InfoPro."""
    infopro = propose_heads(model, task)
    net = 'segmentation' if task == 'segmentation' else 'linear'
    greedy = {
        'type': 'mmlocal.GreedyHead',
        'net': net,
        'num_classes': infopro.get('num_classes') or 10,
    }
    return {'greedy': greedy, 'infopro': infopro}


def noise_batch(
    cfg: Config, batch_size: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Raw images, and labels."""
    generator = torch.Generator().manual_seed(0)
    task = task_of(cfg.model)
    channels, pipeline = channels_of(cfg.model), train_pipeline_of(cfg)
    batch = make_batch(task, batch_size, size, channels, pipeline)
    for image in tensors_of(batch['inputs']):
        image.random_(256, generator=generator)
    return batch


def _built(cfg: dict) -> nn.Module:
    """With initialized weights, in train mode."""
    seed()
    model = MODELS.build(deepcopy(cfg))
    if hasattr(model, 'init_weights'):
        model.init_weights()
    return model.train()


def seed() -> None:
    """All generators that models draw from."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
