"""Time a step, and count bytes and memory, of several ways to use ranks.

    python benchmarks/scaling.py --link 0.2

Trains a DeepLabV3-R18, cut into as many modules as ranks, over gloo on CPU
ranks with a thread each, behind a link of a given speed (slow_link.py): data
parallel end to end, local modules data parallel, one module a rank, the same
a step late, and one stage a rank end to end (1F1B of
torch.distributed.pipelining). They take turns, step by step, so that other
load on the machine meets all alike. Each rank brings a batch of its own.
Prints a table (Markdown).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from ddp_overlap import make_batch, make_model
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from slow_link import LINK
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from mmlocal.engine import distributed
from mmlocal.engine.optim import LocalOptimWrapper

E2E, OURS, PIPELINE = 'DDP, end to end', 'ModuleParallel', '1F1B, end to end'
CUTS = {2: ['layer4.1'], 4: ['layer3.0', 'layer4.0', 'layer4.1']}


class Way(ABC):
    """One way to train.

    Args:
        args (argparse.Namespace): The command line.
    """

    def __init__(self, args: argparse.Namespace):
        self.cuts = args.cuts or CUTS[args.ranks]
        self.model, self.wrap = self.build()

    @abstractmethod
    def build(self) -> tuple[nn.Module, OptimWrapper]:
        """The model, wrapped, and its optimizer."""

    def step(self, batch: dict) -> None:
        """One step on this rank's batch."""
        self.model.train_step(batch, self.wrap)

    def static(self) -> int:
        """Bytes of weights, gradients and states of the optimizer."""
        weights = [p for p in self.model.parameters() if not p.is_meta]
        states = sum(
            _nbytes(value)
            for state in self.wrap.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        trained = [p for p in weights if p.requires_grad]
        return sum(map(_nbytes, [*weights, *trained])) + states


class DataParallel(Way):
    """DDP of the network without cuts."""

    def build(self) -> tuple[nn.Module, OptimWrapper]:
        model = make_model([])
        wrap = OptimWrapper(optimizer=_sgd(model))
        model = MMDistributedDataParallel(model, broadcast_buffers=False)
        return model, wrap


class Local(Way):
    """A wrapper for local modules."""

    wrapper = 'LocalDistributedDataParallel'
    options: dict = {}

    def build(self) -> tuple[nn.Module, OptimWrapper]:
        model = make_model(self.cuts)
        outer = getattr(distributed, self.wrapper)(model, **self.options)
        return outer, LocalOptimWrapper(optimizer=_sgd(outer.module))


class LocalSharded(Local):
    """Sharded weights."""

    wrapper = 'LocalFSDP'


class ModuleParallel(Local):
    """One module a rank."""

    wrapper = 'ModuleParallel'


class Delayed(ModuleParallel):
    """On features that are a step old."""

    options = {'delay': 1}


class Pipeline(Way):
    """One stage a rank, end to end, each rank's batch a micro-batch."""

    def build(self) -> tuple[nn.Module, OptimWrapper]:
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        rank, ranks = dist.get_rank(), dist.get_world_size()
        whole = make_model(self.cuts)
        stage = _Stage(whole, rank)
        self.pipe = Schedule1F1B(
            PipelineStage(stage, rank, ranks, torch.device('cpu')),
            ranks,
            self._loss,
        )
        self.preprocess = whole.data_preprocessor
        return stage, OptimWrapper(optimizer=_sgd(stage))

    def step(self, batch: dict) -> None:
        """All shares; images and labels are brought as in ModuleParallel."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        data = self.preprocess(batch, True)
        images = data['inputs']
        labels = torch.stack(
            [s.gt_sem_seg.data[0] for s in data['data_samples']]
        )
        sends = []
        if rank:
            sends.append(dist.isend(images, 0))
        if rank < ranks - 1:
            sends.append(dist.isend(labels, ranks - 1))
        if rank == 0:
            self.pipe.step(_all(images, range(ranks)))
        elif rank < ranks - 1:
            self.pipe.step()
        else:
            self.pipe.step(target=_all(labels, range(ranks)), losses=[])
        for send in sends:
            send.wait()
        self.wrap.step()
        self.wrap.zero_grad()

    @staticmethod
    def _loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = interpolate(logits, labels.shape[-2:], mode='bilinear')
        return cross_entropy(logits, labels, ignore_index=255)


class _Stage(nn.Module):
    """What a rank runs; the last one with the decoder."""

    def __init__(self, whole: nn.Module, rank: int):
        super().__init__()
        chain = whole.backbone.chain
        self.blocks = nn.Sequential(*chain.blocks(rank))
        is_last = rank == dist.get_world_size() - 1
        self.decoder = whole.decode_head if is_last else None

    def forward(self, feat: Tensor) -> Tensor:
        feat = self.blocks(feat)
        return feat if self.decoder is None else self.decoder([feat])


WAYS: dict[str, type[Way]] = {
    E2E: DataParallel,
    'LocalDistributedDataParallel': Local,
    'LocalFSDP': LocalSharded,
    OURS: ModuleParallel,
    'ModuleParallel, delay=1': Delayed,
    PIPELINE: Pipeline,
}


class Saved:
    """The most that autograd has held; a storage counts once.

    With sharded weights, that has gathered ones in it.
    """

    def __init__(self, model: nn.Module):
        self.weights = {
            _local(p).untyped_storage().data_ptr()
            for p in model.parameters()
            if not p.is_meta
        }
        self.live: dict[int, list[int]] = {}
        self.peak = 0

    def watch(self) -> AbstractContextManager:
        """In here it is counted."""
        return torch.autograd.graph.saved_tensors_hooks(
            self._pack, lambda box: box.tensor
        )

    def _pack(self, tensor: Tensor) -> _Box:
        box, storage = _Box(tensor), _local(tensor).untyped_storage()
        key = storage.data_ptr()
        if key not in self.weights:
            entry = self.live.setdefault(key, [storage.nbytes(), 0])
            entry[1] += 1
            weakref.finalize(box, self._release, key)
            total = sum(size for size, _ in self.live.values())
            self.peak = max(self.peak, total)
        return box

    def _release(self, key: int) -> None:
        self.live[key][1] -= 1
        if not self.live[key][1]:
            del self.live[key]


class _Box:
    def __init__(self, tensor: Tensor):
        self.tensor = tensor


def _all(mine: Tensor, ranks: range) -> Tensor:
    """The tensors of all ranks, each sent to this one."""
    parts = [torch.empty_like(mine) for _ in ranks]
    for rank, part in zip(ranks, parts, strict=True):
        if rank == dist.get_rank():
            part.copy_(mine)
        else:
            dist.recv(part, rank)
    return torch.cat(parts)


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def _local(tensor: Tensor) -> Tensor:
    """The shard, where a tensor is sharded."""
    return getattr(tensor, 'to_local', lambda: tensor)()


def _nbytes(tensor: Tensor) -> int:
    return _local(tensor).nbytes


def _timed(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds until all ranks are done, and bytes that this one has sent."""
    dist.barrier()
    start, sent = time.monotonic(), LINK.sent
    call()
    sent = LINK.sent - sent
    dist.barrier()
    return time.monotonic() - start, sent


def measure(rank: int, args: argparse.Namespace, folder: str) -> None:
    """One rank: train in turns, and write what was measured."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    MMLogger.get_instance('scaling', log_level='ERROR')
    dist.init_process_group(
        'slow_gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=args.ranks,
    )
    kinds = {
        name: kind
        for name, kind in WAYS.items()
        if not issubclass(kind, Local) or hasattr(distributed, kind.wrapper)
    }
    ways = {name: kind(args) for name, kind in kinds.items()}
    result: dict = {}
    for name, way in ways.items():
        for step in range(2):
            way.step(_batch(args, step, rank))
        saved = Saved(way.model)
        with saved.watch():
            way.step(_batch(args, 2, rank))
        result[name] = dict(static=way.static(), saved=saved.peak)
    for speed in args.link:
        LINK.speed = speed * 1e9
        found = {name: [] for name in ways}
        for step in range(args.steps):
            batch = _batch(args, step, rank)
            for name, way in ways.items():
                own = deepcopy(batch)
                found[name].append(_timed(lambda w=way, b=own: w.step(b)))
        for name, pairs in found.items():
            result[name][str(speed)] = pairs
    Path(folder, f'{rank}.json').write_text(json.dumps(result))
    dist.barrier()
    os._exit(0)


def _batch(args: argparse.Namespace, step: int, rank: int) -> dict:
    return make_batch(args.ranks * step + rank, args.batch, args.side)


def table(results: list[dict], speeds: list[float]) -> str:
    """Times of rank 0, bytes and memory of each rank."""
    lines = [
        '| | '
        + ' | '.join(f'step at {s} GB/s | of {E2E}' for s in speeds)
        + ' | MB sent by rank | MB of weights, gradients, momentum by rank'
        ' | MB saved for backward by rank |',
        '| --- ' + '| --- | --- ' * len(speeds) + '| --- | --- | --- |',
    ]
    for name, own in results[0].items():
        cells = [name]
        for speed in map(str, speeds):
            steps = [length for length, _ in own[speed]]
            ratio = _ratio(results[0], name, E2E, speed)
            cells += [f'{1e3 * median(steps):.0f} ms', f'{ratio:.2f}']
        last = str(speeds[-1])
        ranks = [result[name] for result in results]
        sent = [median(size for _, size in rank[last]) for rank in ranks]
        cells.append(_megabytes(sent))
        cells.append(_megabytes([rank['static'] for rank in ranks]))
        cells.append(_megabytes([rank['saved'] for rank in ranks]))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def compared(results: list[dict], speeds: list[float]) -> str:
    """One module a rank beside one stage a rank end to end."""
    ratios = [
        f'{_ratio(results[0], OURS, PIPELINE, str(speed)):.2f} at {speed} GB/s'
        for speed in speeds
    ]
    return f'{OURS} takes, of {PIPELINE}: {", ".join(ratios)}'


def _ratio(result: dict, name: str, base: str, speed: str) -> float:
    """The median over pairs of steps."""
    pairs = zip(result[name][speed], result[base][speed], strict=True)
    return median(step / other for (step, _), (other, _) in pairs)


def _megabytes(sizes: list[float]) -> str:
    return ', '.join(f'{size / 1e6:.1f}' for size in sizes)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--link', nargs='+', type=float, default=[0.2, math.inf], help='GB/s'
    )
    parser.add_argument('--ranks', type=int, default=2)
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--batch', type=int, default=2, help='of a rank')
    parser.add_argument('--side', type=int, default=48, help='pixels')
    parser.add_argument('--cuts', nargs='+', help='one less than ranks')
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    fork = multiprocessing.get_context('fork')
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            fork.Process(target=measure, args=(rank, args, folder))
            for rank in range(args.ranks)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        results = [
            json.loads(Path(folder, f'{rank}.json').read_text())
            for rank in range(args.ranks)
        ]
    print(table(results, args.link))
    print(compared(results, args.link))


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    main()
