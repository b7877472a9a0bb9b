"""Pictures of what each module sees."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch.nn.functional as F
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmlocal.registry import HOOKS
from mmlocal.step import local_backbone, to_pixels, unwrap

CAPTION_HEIGHT = 18


@HOOKS.register_module()
class LocalVisualizationHook(Hook):
    """Shows each module's reconstruction and prediction on validation images.

    Once a validation, one picture goes to the visualizer (in the work dir
    under ``vis_data/vis_image``): a row an image; the input, then for each
    boundary what its head rebuilds of it and what it predicts (a mask, or the
    class and its probability in the caption).

    Args:
        num_images (int): Rows. Defaults to 4.
        interval (int): Draw at every n-th validation. Defaults to 1.
        min_size (int): Smaller images are enlarged to this height in pixels.
            Defaults to 192.
        max_size (int): Larger ones are reduced to this width. Defaults to
            768.
        channel_order (str): Of the network's input, ``rgb`` or ``bgr``.
            Defaults to 'rgb'.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        num_images: int = 4,
        interval: int = 1,
        min_size: int = 192,
        max_size: int = 768,
        channel_order: str = 'rgb',
    ):
        if channel_order not in ('rgb', 'bgr'):
            raise ValueError(
                f'LocalVisualizationHook.channel_order={channel_order!r}: '
                "write 'rgb' or 'bgr'."
            )
        self.flip = channel_order == 'bgr'
        self.num_images = num_images
        self.interval = interval
        self.min_size = min_size
        self.max_size = max_size
        self._validations = 0
        self._rows: list[np.ndarray] = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: list | None = None,
    ) -> None:
        """Draw rows of batches that are spread over the data set."""
        batches = len(runner.val_dataloader)
        missing = self.num_images - len(self._rows)
        if (
            missing <= 0
            or self._validations % self.interval
            or batch_idx % max(1, batches // self.num_images)
        ):
            return
        rows = min(missing, -(-self.num_images // batches))
        self._draw_rows(runner, data_batch, rows)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Hand the picture over to the visualizer."""
        self._validations += 1
        if self._rows:
            runner.visualizer.add_image(
                'local_modules', _stack(self._rows), step=runner.iter
            )
            self._rows = []

    @master_only
    def _draw_rows(self, runner: Runner, data_batch: dict, rows: int) -> None:
        model = unwrap(runner.model)
        backbone = local_backbone(model)
        if backbone is None or not backbone.boundaries:
            return
        preprocessor = model.data_preprocessor
        inputs = preprocessor(data_batch, False)['inputs'][:rows]
        predictions = backbone.predict_local(inputs)
        meta = runner.visualizer.dataset_meta or {}
        images = self._to_uint8(to_pixels(inputs, preprocessor))
        for row, image in enumerate(images):
            tiles = [self._tile(image, 'input', image.shape[:2])]
            for index, prediction in enumerate(predictions):
                tiles += self._module_tiles(
                    prediction, row, index, image.shape[:2], meta
                )
            self._rows.append(np.hstack(tiles))

    def _module_tiles(
        self,
        prediction: dict[str, Any],
        row: int,
        index: int,
        size: tuple[int, int],
        meta: dict,
    ) -> list[np.ndarray]:
        tiles, caption = [], f'module {index} rebuilds'
        logits = prediction.get('logits')
        if logits is not None and logits.ndim == 2:
            score, label = logits[row].float().softmax(0).max(0)
            classes = meta.get('classes')
            name = classes[int(label)] if classes else f'class {int(label)}'
            caption = f'module {index}: {name} {score:.0%}'
        if (recon := prediction.get('reconstruction')) is not None:
            image = self._to_uint8(recon[row : row + 1])[0]
            tiles.append(self._tile(image, caption, size))
        if logits is not None and logits.ndim == 4:
            mask = _mask(logits[row : row + 1], size, meta.get('palette'))
            tiles.append(self._tile(mask, f'module {index} predicts', size))
        return tiles

    def _tile(
        self, image: np.ndarray, caption: str, size: tuple[int, int]
    ) -> np.ndarray:
        """An RGB image under its caption, enlarged by a whole factor."""
        height, width = size
        if width > self.max_size:
            height, width = height * self.max_size // width, self.max_size
            kind = cv2.INTER_AREA
        else:
            factor = max(1, -(-self.min_size // height))
            height, width = height * factor, width * factor
            kind = cv2.INTER_NEAREST
        image = cv2.resize(image, (width, height), interpolation=kind)
        bar = np.full((CAPTION_HEIGHT, width, 3), 255, np.uint8)
        cv2.putText(
            bar,
            caption,
            (3, CAPTION_HEIGHT - 6),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.36,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
        tile = np.vstack([bar, image])
        return np.pad(tile, ((0, 2), (0, 2), (0, 0)), constant_values=255)

    def _to_uint8(self, pixels: Tensor) -> list[np.ndarray]:
        """(N, 3, H, W) in [0, 1] as RGB images (H, W, 3)."""
        pixels = pixels.flip(1) if self.flip else pixels
        array = (pixels.float() * 255).round().byte().permute(0, 2, 3, 1)
        return list(array.cpu().numpy())


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [
            np.pad(
                row,
                ((0, 0), (0, width - row.shape[1]), (0, 0)),
                constant_values=255,
            )
            for row in rows
        ]
    )


def _mask(
    logits: Tensor, size: tuple[int, int], palette: list | None
) -> np.ndarray:
    logits = F.interpolate(logits.float(), size=size, mode='bilinear')
    labels = logits.argmax(1)[0].cpu().numpy()
    if palette is None:
        palette = np.random.RandomState(0).randint(
            0, 256, (labels.max() + 1, 3)
        )
    return np.asarray(palette, np.uint8)[labels]
