"""A Runner that cuts a network before it is built, and may shard it."""

from __future__ import annotations

from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import convert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn

from mmlocal.config import build_partition, planned_backbone, type_name
from mmlocal.registry import MODEL_WRAPPERS, RUNNERS
from mmlocal.step import local_backbone

from .distributed.sharded_runs import ShardedRuns
from .distributed.stages import number_of_stages, sizes_of


@RUNNERS.register_module()
class LocalRunner(ShardedRuns, Runner):
    """:class:`mmengine.runner.Runner`, for splits that need the whole config.

    ``boundaries`` that are left to a plan (``MemoryBalanced``,
    ``MemoryBudget``) are replaced in the config by the cuts and the
    ``checkpointing`` that the plan names. What is logged, recorded, built,
    dumped to the work dir and kept in checkpoints is the config with the
    cuts; it trains alike with any Runner. A model that is sharded by
    ``LocalFSDP`` is initialized, saved and resumed as a whole one; it needs
    this Runner. All other configs pass through.

    ``tools/train.py`` and ``tools/test.py`` take it for configs without a
    ``runner_type``.

    Raises:
        ValueError: If no split will do.

    Example:
        >>> runner_type = 'mmlocal.LocalRunner'
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, then plan.

        Here ranks can talk, and the config has not been used yet: it is
        logged next.
        """
        logger = super().build_logger(*args, **kwargs)
        self._split = None
        backbone = planned_backbone(self.cfg.get('model') or {})
        if backbone is not None:
            partition = build_partition(backbone['boundaries'])
            self._split = partition.split_for(self.cfg, self.work_dir)
            self._write_split(backbone)
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, cut as in the config."""
        if self._split is not None and isinstance(model, dict):
            # Runner has a copy of its own in `cfg`.
            backbone = planned_backbone(model)
            if backbone is not None:
                self._write_split(backbone)
        return super().build_model(model)

    def wrap_model(
        self, model_wrapper_cfg: dict | None, model: nn.Module
    ) -> nn.Module:
        """Wrap the model; balance the stages of a ``ModuleParallel``.

        Its ranks move to the device what they train: there may be too much
        for all of it.
        """
        kind = (model_wrapper_cfg or {}).get('type')
        if not self.distributed or type_name(kind) != 'ModuleParallel':
            return super().wrap_model(model_wrapper_cfg, model)
        if (sync_bn := self.cfg.get('sync_bn')) is not None:
            model = convert_sync_batchnorm(model, sync_bn)
        backbone = local_backbone(model)
        if backbone is not None:
            modules = backbone.num_modules
            stages = model_wrapper_cfg.get('stages')
            sizes = sizes_of(stages, modules, self.world_size)
            if sizes is None:
                count = number_of_stages(stages, modules, self.world_size)
                partition = build_partition(
                    {'type': 'mmlocal.BalancedStages', 'num_stages': count}
                )
                sizes = partition.sizes_for(self.cfg)
            model_wrapper_cfg['stages'] = sizes
        return MODEL_WRAPPERS.build(
            model_wrapper_cfg, default_args={'module': model}
        )

    def _write_split(self, backbone: dict) -> None:
        backbone['boundaries'] = list(self._split.boundaries)
        backbone['checkpointing'] = list(self._split.checkpointing)
