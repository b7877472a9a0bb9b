"""Validation and test of each module, in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner, TestLoop, ValLoop, autocast

from mmlocal.engine.distributed import ModuleParallel
from mmlocal.evaluation.ensemble import KINDS
from mmlocal.evaluation.readers import make_reader
from mmlocal.registry import LOOPS
from mmlocal.step import local_backbones, unwrap


class _ReadsOut:
    """What the two loops share."""

    stage: str

    def __init__(
        self,
        runner: Runner,
        *args: Any,
        ensemble: str | None = 'prob',
        **kwargs: Any,
    ):
        if ensemble not in KINDS:
            raise ValueError(
                f'{self.stage}_cfg.ensemble={ensemble!r} is unknown: write '
                f'one of {KINDS}.'
            )
        super().__init__(runner, *args, **kwargs)
        self.ensemble = ensemble
        self._told: set[int] = set()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Predict a batch, read its modules out and feed the metrics.

        Args:
            idx (int): Of the batch.
            data_batch (dict): Of the data loader.
        """
        call_hook, stage = self.runner.call_hook, self.stage
        call_hook(f'before_{stage}_iter', batch_idx=idx, data_batch=data_batch)
        with autocast(enabled=self.fp16):
            outputs = self._predict(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        call_hook(
            f'after_{stage}_iter',
            batch_idx=idx,
            data_batch=data_batch,
            outputs=outputs,
        )

    def _predict(self, data_batch: dict) -> Sequence[Any]:
        model = unwrap(self.runner.model)
        backbones = local_backbones(model)
        backbone = next(iter(backbones.values()), None)
        parted = isinstance(self.runner.model, ModuleParallel)
        if parted or backbone is None or isinstance(model, BaseTTAModel):
            outputs = getattr(self.runner.model, f'{self.stage}_step')(
                data_batch
            )
            rows: list[dict] = [{} for _ in outputs]
            if parted:
                self._tell_once(
                    'modules are not read out: under ModuleParallel no rank '
                    'has all of them. Test the checkpoint in one process.'
                )
        else:
            data = model.data_preprocessor(data_batch, False)
            if len(backbones) > 1:
                first, *others = backbones
                self._tell_once(
                    f'modules of {first} are read out, those of '
                    f'{", ".join(others)} are not: a read-out is named by '
                    'its module alone.'
                )
            reader = make_reader(model, backbone, **data)
            outputs = reader.run()
            rows, missing = reader.read(self.ensemble)
            self._tell(missing)
        for sample, row in zip(outputs, rows, strict=True):
            sample.set_data({'read_outs': row})
        return outputs

    def _tell(self, missing: list[int]) -> None:
        new = [str(i + 1) for i in missing if i not in self._told]
        self._told.update(missing)
        if new:
            print_log(
                f'module {", ".join(new)}: the local head predicts no '
                'classes; there is no read-out of it, and none in ensembles',
                logger='current',
            )

    def _tell_once(self, text: str) -> None:
        if not self._told:
            self._told.add(-1)
            print_log(text, logger='current')


@LOOPS.register_module()
class LocalValLoop(_ReadsOut, ValLoop):
    """mmengine's ``ValLoop``, which also reads each module out.

    In the model's own forward, local heads predict too. What they predict
    goes into the data samples as ``read_outs``, by name: ``module_1`` to
    ``module_K``, where the last module is read out by the model's own head
    (unless it has a local one, with ``local_end``), and ``ensemble_2`` to
    ``ensemble_K``, see :class:`~mmlocal.evaluation.ensemble.Ensemble`.
    :class:`~mmlocal.evaluation.PerModuleAccuracy` and ``PerModuleIoU``
    measure them; other metrics give what they give in ``ValLoop``. Heads
    that predict no classes are left out, which the log says once.

    While one module but the last trains alone (``SequentialTrainLoop``), the
    forward ends behind it. The data samples then have its prediction, and
    other metrics measure the module in training.

    Of several cut backbones the first is read out, which the log says.
    A model whose backbone is not cut, one whose ranks have a module each
    (``ModuleParallel``), and test-time augmentation have no read-outs.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): Of the data to validate on.
        evaluator (Evaluator | dict | list): The metrics.
        ensemble (str, optional): Ensembles of probabilities ('prob') or
            'logit's; None for none. Defaults to 'prob'.
        fp16 (bool): Predict in mixed precision. Defaults to False.

    Raises:
        ValueError: If ``ensemble`` is none of these, or the modules have
            different classes; or, in validation, if the module that trains
            alone predicts no classes.
    """

    stage = 'val'


@LOOPS.register_module()
class LocalTestLoop(_ReadsOut, TestLoop):
    """mmengine's ``TestLoop``, likewise; see :class:`LocalValLoop`."""

    stage = 'test'
