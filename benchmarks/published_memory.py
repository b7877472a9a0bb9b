"""Hold the planner to the memory that InfoPro's paper reports.

    python benchmarks/published_memory.py

Runs one step of the shipped configs on fake tensors, which needs no GPU, and
prints Markdown: what was published (tables 3, 4 and 5 of arXiv 2101.10832),
what is predicted, and the rest between them. What a card adds on top of
tensors (context, kernels, workspaces, fragmentation) is one constant a card:
the rest of one row, which is marked. Local heads resize the logits of all
images at once here, as the paper's do, and not those of one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor
from torch.nn import functional as F

from mmlocal.models.cut_points import Split
from mmlocal.planner import Simulator, TrainingSetting

CONFIGS = Path(__file__).parents[1] / 'configs'
UNITS = {'GiB': 2**30, 'GB': 10**9}


@dataclass(frozen=True)
class Row:
    """One published number.

    Attributes:
        config (str): In configs/.
        batch_size (int): Images a GPU.
        published (float): Memory a GPU, in what the paper calls GB.
        block (bool): Per-block checkpointing on top of the config.
    """

    config: str
    batch_size: int
    published: float
    block: bool = False

    @property
    def is_infopro(self) -> bool:
        """Whether it is one that the constant has to explain."""
        return self.config.startswith('infopro/')

    @property
    def label(self) -> str:
        """For the table."""
        return f'{self.config}, per block' if self.block else self.config


R110 = 'infopro/resnet110_{}_balanced-k{}_contrast'
# The first InfoPro row of each card fixes its constant.
CARDS = {
    'Titan Xp': [
        Row(R110.format('cifar10', 2), 1024, 5.38),
        Row(R110.format('cifar10', 3), 1024, 4.22),
        Row(R110.format('cifar10', 4), 1024, 3.52),
        Row(R110.format('stl10', 2), 128, 6.15),
        Row(R110.format('stl10', 3), 128, 4.96),
        Row(R110.format('stl10', 4), 128, 4.08),
        Row('e2e/resnet110_cifar10', 1024, 9.40),
        Row('e2e/resnet110_stl10', 128, 10.77),
        Row('e2e/resnet110_cifar10', 1024, 3.91, block=True),
        Row('e2e/resnet110_stl10', 128, 4.50, block=True),
    ],
    # The batches of 1024 and 512 are those of 8 cards.
    'V100': [
        Row('infopro/resnet101_imagenet', 128, 12.06),
        Row('infopro/resnet152_imagenet', 128, 15.53),
        Row('infopro/resnext101-32x8d_imagenet', 64, 11.55),
        Row('e2e/resnet101_imagenet', 128, 19.71),
        Row('e2e/resnet152_imagenet', 128, 26.29),
        Row('e2e/resnext101-32x8d_imagenet', 64, 19.22),
    ],
    # The batches of 8 and 12 are those of 2 cards.
    'RTX 3090': [
        Row('infopro/deeplabv3_r101_cityscapes', 4, 12.01),
        Row('infopro/deeplabv3_r101_cityscapes_bs12', 6, 16.62),
        Row('infopro/deeplabv3_r101_cityscapes-640x1280', 4, 17.00),
        Row('e2e/deeplabv3_r101_cityscapes', 4, 19.43),
    ],
}


def main() -> None:
    """Print the tables."""
    MMLogger.get_instance('mmengine', log_level='WARNING')
    for card, rows in CARDS.items():
        peaks = [predict(row) for row in rows]
        print(f'### {card}\n')
        print('\n'.join(table(rows, peaks)))
        print()
        print('\n'.join(readings(rows, peaks)))
        print(flush=True)


def predict(row: Row) -> int:
    """Bytes of one step."""
    cfg = Config.fromfile(CONFIGS / f'{row.config}.py')
    simulator = Simulator(TrainingSetting(cfg, row.batch_size))
    split = simulator.own_split
    if row.block:
        split = Split(split.boundaries, ('block',))
    with patch(
        'mmlocal.models.local_heads.supervised.imagewise_cross_entropy',
        whole_batch,
    ):
        return simulator.measure(split).peak


def whole_batch(
    logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool
) -> Tensor:
    """``imagewise_cross_entropy`` of all images at once."""
    logits = F.interpolate(
        logits,
        labels.shape[-2:],
        mode='bilinear',
        align_corners=align_corners,
    )
    return F.cross_entropy(
        logits, labels, ignore_index=ignore_index, reduction='none'
    )


def table(rows: list[Row], peaks: list[int]) -> Iterator[str]:
    """Markdown, in GiB; the first row fixes the constant."""
    unit = UNITS['GiB']
    constant = rows[0].published - peaks[0] / unit
    yield (
        '| config | images a GPU | published | predicted, GiB | rest | '
        f'predicted + {constant:.2f} | difference |'
    )
    yield '| --- | --- | --- | --- | --- | --- | --- |'
    for row, peak in zip(rows, peaks, strict=True):
        size = peak / unit
        total = size + constant
        off = f'{total / row.published - 1:+.1%}'
        off = 'fitted' if row is rows[0] else off
        yield (
            f'| {row.label} | {row.batch_size} | {row.published:.2f} | '
            f'{size:.2f} | {row.published - size:.2f} | {total:.2f} | {off} |'
        )


def readings(rows: list[Row], peaks: list[int]) -> Iterator[str]:
    """How far InfoPro's rows are off, by unit and by fit."""
    pairs = [
        (row.published, peak)
        for row, peak in zip(rows, peaks, strict=True)
        if row.is_infopro
    ]
    for name, unit in UNITS.items():
        rests = [published - peak / unit for published, peak in pairs]
        first, middle = (
            max(
                abs(peak / unit + constant - published) / published
                for published, peak in pairs
            )
            for constant in (rests[0], median(rests))
        )
        yield (
            f"* published numbers read as {name}: InfoPro's rows are off by "
            f'at most {first:.1%}, and by {middle:.1%} with the median of '
            f'their rests ({median(rests):.2f}) as the constant'
        )


if __name__ == '__main__':
    main()
