"""A metric of an mm library, module by module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mmengine.evaluator import BaseMetric

from mmlocal.registry import METRICS


class PerModuleMetric(BaseMetric):
    """Has a metric compute its values for each read-out.

    Its keys have the read-out in front: ``module_1/accuracy/top1``. Read-outs
    are put into the data samples by :class:`mmlocal.LocalValLoop` and
    :class:`mmlocal.LocalTestLoop`.

    Args:
        **kwargs: Those of the metric.
    """

    metric_type: ClassVar[str]

    def __init__(self, **kwargs: Any):
        self.metric: BaseMetric = METRICS.build(
            {'type': self.metric_type, **kwargs}
        )
        # BaseMetric warns without a prefix; here each key gets its own.
        super().__init__(self.metric.collect_device, prefix='module')
        self.prefix = None

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Set the meta information of the data set, for the metric too."""
        self._dataset_meta = self.metric.dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take up what the metric keeps of each data sample and read-out.

        Raises:
            ValueError: If the loop reads no modules out.
        """
        for sample in data_samples:
            if 'read_outs' not in sample:
                name = type(self).__name__
                raise ValueError(
                    f'val_evaluator: {name} needs a loop that reads each '
                    "module out: write val_cfg=dict(type='mmlocal."
                    "LocalValLoop') and test_cfg=dict(type='mmlocal."
                    f"LocalTestLoop'), or remove {name} from val_evaluator "
                    'and test_evaluator.'
                )
            row = {}
            for name, fields in sample['read_outs'].items():
                self.metric.process(data_batch, [{**sample, **fields}])
                row[name] = self.metric.results.pop()
            self.results.append(row)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict:
        """Compute the metric for each read-out."""
        metrics = {}
        for name in results[0]:
            rows = [row[name] for row in results]
            for key, value in self.metric.compute_metrics(rows).items():
                metrics[self.key(name, key)] = value
        return metrics

    def key(self, name: str, key: str) -> str:
        """In the log, of a value of the metric for one read-out."""
        prefix = [self.metric.prefix] if self.metric.prefix else []
        return '/'.join([name, *prefix, key])
