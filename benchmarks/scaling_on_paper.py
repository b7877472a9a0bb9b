"""What ways to use many GPUs send and hold, computed, with no GPU.

    python benchmarks/scaling_on_paper.py

For DeepLabV3-R101 (the InfoPro config, 2 images of 512x1024 a GPU, SGD) and
ViT-L/16 in four modules (32 images of 224x224 a GPU, AdamW), in float32.
Weights, features, activations and FLOPs are counted on fake tensors; the rest
are the formulas in docs/distributed.md. What one of the ranks holds is also
predicted by the planner, which follows a step of it. Prints tables (Markdown).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.model import BaseModule
from torch import Tensor

from mmlocal.models.cut_points import Split
from mmlocal.planner import (
    Simulator,
    TrainingSetting,
    sharded_memory,
    stages_memory,
)
from mmlocal.planner.stages import STATIC
from mmlocal.registry import MODELS

ROOT = Path(__file__).parents[1]
GB = 1e9


@dataclass
class Network:
    """A network in modules, as counted.

    Attributes:
        name (str): What it is.
        batch (int): b, images of a GPU.
        copies (int): Weights, gradients, and states of the optimizer.
        plain (float): Bytes of the weights end to end.
        weights (list[float]): P_k, of each module with its head.
        features (list[float]): f_k, of what each module takes in, an image;
            for the first, the image i.
        whole (float): Activations end to end, at their peak.
        peaks (list[float]): The same of each module alone.
        flops (list[int]): Of a step of each module.
    """

    name: str
    batch: int
    copies: int
    plain: float
    weights: list[float]
    features: list[float]
    whole: float
    peaks: list[float]
    flops: list[int]


@MODELS.register_module()
class MeanToken(BaseModule):
    """Makes a vector of tokens."""

    def forward(self, outputs: Sequence[Tensor]) -> tuple[Tensor]:
        """The mean of (N, L, C), (N, C)."""
        return (outputs[-1].mean(1),)


def count(name: str, simulator: Simulator, copies: int) -> Network:
    """Run the steps on fake tensors."""
    backbone = simulator.backbone
    split = simulator.own_split
    size = simulator.setting.batch_size
    whole = simulator.measure(Split([], [None]))
    plain = sum(p.nbytes for p in simulator.model.parameters())
    indices = range(len(split.boundaries) + 1)
    reports = [
        simulator.measure_module(split, k, cached=True) for k in indices
    ]
    weights = [
        sum(p.nbytes for p in backbone.module_weights(k)) for k in indices
    ]
    inside = {id(p) for k in indices for p in backbone.module_weights(k)}
    weights[-1] += sum(
        p.nbytes for p in simulator.model.parameters() if id(p) not in inside
    )
    height, width = simulator.setting.image_size
    features = [3 * height * width * 4]
    for k in indices[1:]:
        features.append(simulator.module_input(k, 1).nbytes)
    return Network(
        name,
        size,
        copies,
        plain,
        weights,
        features,
        _activations(whole),
        [_activations(report) for report in reports],
        [report.total_flops for report in reports],
    )


def _activations(report) -> float:
    """At the peak: all but weights, gradients and optimizer."""
    return sum(n for band, n in report.bands.items() if band not in STATIC)


def table(net: Network, ranks: Sequence[int]) -> str:
    """Sent a rank and step, and held by the rank that has most."""
    stages, batch = len(net.weights), net.batch
    local, copies = sum(net.weights), net.copies
    largest = max(range(stages), key=lambda k: net.peaks[k])
    image = net.features[0]

    def ring(size: float, count: int) -> float:
        return 2 * (count - 1) / count * size

    def stage(k: int, count: int, back: bool) -> float:
        sent = ring(net.weights[k], count // stages)
        if k + 1 < stages:
            sent += stages * batch * net.features[k + 1]
            # Images for the local heads go along.
            sent += 0 if back else stages * batch * image
        if back and k:
            sent += stages * batch * net.features[k]
        return sent

    def static(size: float) -> float:
        return copies * size

    lines = [
        '| | ' + ' | '.join(f'{n} GPUs: sent, held' for n in ranks) + ' |',
        '| --- ' + '| --- ' * len(ranks) + '|',
    ]
    # Backward of the first begins when all shares are under way; end to end
    # there are no local heads.
    part = net.whole / sum(net.peaks)
    flight = [(stages - k) * part * net.peaks[k] for k in range(stages)]
    rows = {
        'DDP, end to end': lambda n: (
            ring(net.plain, n),
            static(net.plain) + net.whole,
        ),
        'LocalDistributedDataParallel': lambda n: (
            ring(local, n),
            static(local) + net.peaks[largest],
        ),
        'sharded (FSDP2), local': lambda n: (
            ring(local, n),
            static(local) / n + 2 * max(net.weights) + net.peaks[largest],
        ),
        'ModuleParallel': lambda n: (
            max(stage(k, n, False) for k in range(stages)),
            max(
                static(net.weights[k])
                + net.peaks[k]
                + 2 * batch * net.features[k]
                for k in range(stages)
            ),
        ),
        '1F1B, end to end': lambda n: (
            max(stage(k, n, True) for k in range(stages)),
            max(static(net.weights[k]) + flight[k] for k in range(stages)),
        ),
    }
    for name, row in rows.items():
        cells = [f'{s / GB:.2f}, {h / GB:.2f} GB' for s, h in map(row, ranks)]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def describe(net: Network) -> str:
    """What was counted."""
    share = [f'{f / sum(net.flops):.0%}' for f in net.flops]
    return (
        f'{net.name}: weights {net.plain / GB:.2f} GB end to end, '
        f'{_list(net.weights)} GB by module; features '
        f'{", ".join(f"{f / 1e6:.1f}" for f in net.features[1:])} MB an '
        f'image, image {net.features[0] / 1e6:.1f} MB; activations '
        f'{net.whole / GB:.2f} GB end to end, {_list(net.peaks)} GB by '
        f'module; FLOPs {", ".join(share)}'
    )


def _list(sizes: Sequence[float]) -> str:
    return ', '.join(f'{size / GB:.2f}' for size in sizes)


def planned(simulator: Simulator, ranks: int) -> str:
    """What one of the ranks holds, by the planner."""
    split = simulator.own_split
    whole = simulator.measure(split).peak
    shard = sharded_memory(simulator, split, ranks).peak
    stages = stages_memory(simulator, split, ranks)
    return (
        f'One of {ranks} GPUs by the planner ({simulator.setting.inputs}, '
        f'{simulator.setting.precision}): '
        f'LocalDistributedDataParallel {whole / GB:.2f} GB, LocalFSDP at most '
        f'{shard / GB:.2f} GB, ModuleParallel by stage at most '
        f'{_list([stage.peak for stage in stages])} GB, of which weights '
        f'{_list([stage.weights for stage in stages])} GB'
    )


def vit_large() -> Config:
    """ViT-L/16 in four modules of six blocks."""
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                data_preprocessor=dict(
                    mean=[127.5] * 3, std=[127.5] * 3, num_classes=1000
                ),
                backbone=dict(
                    type='mmlocal.LocalSupervisedBackbone',
                    backbone=dict(
                        type='VisionTransformer',
                        arch='large',
                        img_size=224,
                        patch_size=16,
                        out_type='raw',
                        with_cls_token=False,
                    ),
                    boundaries=['layers.6', 'layers.12', 'layers.18'],
                    local_heads=dict(
                        type='mmlocal.GreedyHead',
                        num_classes=1000,
                        net='linear',
                    ),
                ),
                neck=dict(type='mmlocal.MeanToken'),
                head=dict(
                    type='LinearClsHead', num_classes=1000, in_channels=1024
                ),
            ),
            optim_wrapper=dict(
                type='mmlocal.LocalOptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-3),
            ),
            train_dataloader=dict(batch_size=32, dataset=dict(image_size=224)),
        )
    )


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--ranks', nargs='+', type=int, default=[8, 64, 1024])
    args = parser.parse_args()
    path = ROOT / 'configs/infopro/deeplabv3_r101_cityscapes.py'
    for name, cfg, copies in (
        ('DeepLabV3-R101', Config.fromfile(path), 3),
        ('ViT-L/16', vit_large(), 4),
    ):
        simulator = Simulator(TrainingSetting(cfg))
        net = count(name, simulator, copies)
        print(f'\n{describe(net)}\n\n{table(net, args.ranks)}')
        print(f'\n{planned(simulator, args.ranks[0])}')


if __name__ == '__main__':
    main()
