"""Accuracy of each module of a classifier."""

from mmlocal.registry import METRICS

from .per_module import PerModuleMetric


@METRICS.register_module()
class PerModuleAccuracy(PerModuleMetric):
    """mmpretrain's ``Accuracy`` for each module: ``module_1/accuracy/top1``.

    Beside it ``ensemble_2/accuracy/top1`` and on, of the modules so far. See
    :class:`mmlocal.LocalValLoop`, which it needs.

    Args:
        **kwargs: Those of mmpretrain's ``Accuracy``, as ``topk=(1, 5)``.

    Example:
        >>> val_cfg = dict(type='mmlocal.LocalValLoop')
        >>> val_evaluator = [
        ...     dict(type='Accuracy'),
        ...     dict(type='mmlocal.PerModuleAccuracy')]
    """

    metric_type = 'mmpretrain.Accuracy'
