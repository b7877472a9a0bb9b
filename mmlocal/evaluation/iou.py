"""Intersection over union of each module of a segmentor."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch import Tensor

from mmlocal.registry import METRICS

from .per_module import PerModuleMetric

Areas = tuple[Tensor, Tensor, Tensor, Tensor]


@METRICS.register_module()
class PerModuleIoU(PerModuleMetric):
    """mmseg's ``IoUMetric`` for each module: ``module_1/mIoU``.

    Beside it ``ensemble_2/mIoU`` and on, of the modules so far. The log gets
    one table of the classes, with a column a read-out. Kept are the areas of
    each image, not its maps. See :class:`mmlocal.LocalValLoop`, which it
    needs.

    Args:
        **kwargs: Those of mmseg's ``IoUMetric``, as ``iou_metrics=['mIoU']``,
            but for ``output_dir`` and ``format_only``.

    Raises:
        ValueError: On these two.

    Example:
        >>> val_cfg = dict(type='mmlocal.LocalValLoop')
        >>> val_evaluator = [
        ...     dict(type='IoUMetric', iou_metrics=['mIoU']),
        ...     dict(type='mmlocal.PerModuleIoU', iou_metrics=['mIoU'])]
    """

    metric_type = 'mmseg.IoUMetric'

    def __init__(self, **kwargs: Any):
        for key in 'output_dir', 'format_only':
            if kwargs.get(key):
                raise ValueError(
                    f'val_evaluator: PerModuleIoU writes no label maps, '
                    f'remove {key}; IoUMetric writes those of the model.'
                )
        super().__init__(**kwargs)

    def compute_metrics(
        self, results: list[dict[str, Areas]]
    ) -> dict[str, float]:
        """Compute percentages for each read-out; log them by class.

        Args:
            results (list[dict]): For each image, intersections, unions, and
                areas of prediction and annotation, by read-out.
        """
        from prettytable import PrettyTable

        metrics, table = {}, PrettyTable()
        table.add_column('IoU', [*self.dataset_meta['classes']])
        for name in results[0]:
            areas = zip(*(row[name] for row in results), strict=True)
            values = self.metric.total_area_to_metrics(
                *(sum(area) for area in areas),
                self.metric.metrics,
                self.metric.nan_to_num,
                self.metric.beta,
            )
            for key, value in values.items():
                key = key if key == 'aAcc' else f'm{key}'
                mean = np.round(np.nanmean(value) * 100, 2)
                metrics[self.key(name, key)] = mean
            if 'IoU' in values:
                table.add_column(name, np.round(values['IoU'] * 100, 2))
        if len(table.field_names) > 1:
            print_log(f'\n{table}', logger='current')
        return metrics
