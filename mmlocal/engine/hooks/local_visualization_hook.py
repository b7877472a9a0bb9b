"""Pictures of what each module sees."""

from __future__ import annotations

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmlocal.engine.distributed import ModuleParallel
from mmlocal.registry import HOOKS
from mmlocal.step import local_backbone, unwrap
from mmlocal.visualization import draw_modules, predictions_of


@HOOKS.register_module()
class LocalVisualizationHook(Hook):
    """Shows what each module predicts and rebuilds of validation images.

    Once a validation, one picture goes to the visualizer (in the work dir
    under ``vis_data/vis_image``): for each image the input, the ground truth
    and a legend, then for each module what its head predicts (a label map, or
    the most probable classes) and, below, what it rebuilds of the image.

    Args:
        num_images (int): Images, one below the other. Defaults to 4.
        interval (int): Draw at every n-th validation. Defaults to 1.
        size (int): Pixels of an image's longer side. Defaults to 240.
        channel_order (str): Of the network's input, ``rgb`` or ``bgr``.
            Defaults to 'rgb'.

    Raises:
        ValueError: If ``channel_order`` is neither.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        num_images: int = 4,
        interval: int = 1,
        size: int = 240,
        channel_order: str = 'rgb',
    ):
        if channel_order not in ('rgb', 'bgr'):
            raise ValueError(
                f'LocalVisualizationHook.channel_order={channel_order!r}: '
                "write 'rgb' or 'bgr'."
            )
        self.rgb = channel_order == 'rgb'
        self.num_images = num_images
        self.interval = interval
        self.size = size
        self._validations = 0
        self._pictures: list[np.ndarray] = []

    def before_train(self, runner: Runner) -> None:
        if isinstance(runner.model, ModuleParallel):
            runner.logger.warning(
                'LocalVisualizationHook draws nothing: under ModuleParallel '
                'no rank has all modules. demo/image_demo.py draws what a '
                'checkpoint sees.'
            )

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: list | None = None,
    ) -> None:
        """Draw images of batches that are spread over the data set."""
        batches = len(runner.val_dataloader)
        missing = self.num_images - len(self._pictures)
        if (
            missing <= 0
            or self._validations % self.interval
            or batch_idx % max(1, batches // self.num_images)
        ):
            return
        count = min(missing, -(-self.num_images // batches))
        self._draw(runner, data_batch, outputs, count)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Hand the picture over to the visualizer."""
        self._validations += 1
        if self._pictures:
            runner.visualizer.add_image(
                'local_modules', _stack(self._pictures), step=runner.iter
            )
            self._pictures = []

    def _draw(
        self, runner: Runner, data_batch: dict, outputs: list, count: int
    ) -> None:
        # On all ranks, which may have a shard of the model each; the
        # visualizer of rank 0 alone writes.
        model = unwrap(runner.model)
        backbone = local_backbone(model)
        parted = isinstance(runner.model, ModuleParallel)
        if parted or backbone is None or not backbone.boundary_modules:
            return
        inputs = model.data_preprocessor(data_batch, False)['inputs'][:count]
        meta = runner.visualizer.dataset_meta or {}
        for prediction in predictions_of(
            model, inputs, outputs[: len(inputs)], self.rgb, modules=True
        ):
            self._pictures.append(
                draw_modules(
                    prediction,
                    meta.get('classes'),
                    meta.get('palette'),
                    top=3,
                    tile=self.size,
                )
            )


def _stack(pictures: list[np.ndarray]) -> np.ndarray:
    width = max(picture.shape[1] for picture in pictures)
    return np.vstack(
        [
            np.pad(
                picture,
                ((0, 0), (0, width - picture.shape[1]), (0, 0)),
                constant_values=255,
            )
            for picture in pictures
        ]
    )
