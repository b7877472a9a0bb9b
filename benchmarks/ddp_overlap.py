"""Time a step on several ranks whose gradients travel over a slow link.

    python benchmarks/ddp_overlap.py --figure timeline.png

Trains a DeepLabV3-R18 in three modules on CPU ranks over gloo, one thread
each, in three ways: LocalDistributedDataParallel, MMDistributedDataParallel
with find_unused_parameters, and one all-reduce after the last backward. All
three send through the same kind of link: a thread that takes one message after
the other, and no less time than its bytes need. They take turns, step by step,
so that other load on the machine meets all alike. Prints a table (Markdown),
and draws the step of median length of each of the first two.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmlocal.engine.distributed import LocalDistributedDataParallel
from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.registry import MODELS

ROOT = Path(__file__).parents[1]
CUTS = ('layer3.1', 'layer4.1')
OURS, DDP, END = 'ours', 'DDP, find_unused', 'one all-reduce at the end'


class Link:
    """Sums tensors over the ranks, one after the other, in a thread.

    Args:
        speed (float): Bytes a second; infinite: as fast as gloo is here.
    """

    def __init__(self, speed: float):
        self.speed = speed
        self.thread = ThreadPoolExecutor(1)
        self.group = dist.new_group()
        self.events: list[dict] = []

    def all_reduce(
        self, tensor: Tensor, modules: dict[int, int] | None = None
    ) -> torch.futures.Future:
        """Send a tensor; ``modules`` says which modules' bytes are in it."""
        future = torch.futures.Future()
        asked = time.monotonic()

        def send() -> None:
            start = time.monotonic()
            dist.all_reduce(tensor, group=self.group)
            end = start + tensor.nbytes / self.speed
            time.sleep(max(end - time.monotonic(), 0))
            self.events.append(
                dict(
                    asked=asked,
                    start=start,
                    end=time.monotonic(),
                    modules=modules or {},
                )
            )
            future.set_result(tensor)

        self.thread.submit(send)
        return future


class Training:
    """A model, its optimizer and a log of what happened when."""

    def __init__(self, kind: str, model: nn.Module, link: Link, owner: dict):
        self.link, self.events = link, []
        self.model = WRAP[kind](model, link, owner)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self.wrap = wrap = LocalOptimWrapper(optimizer=optimizer)
        self.last_gradient = 0.0
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(self.note)
        if kind == END:
            wrap._wait_for_gradients = lambda: reduce_at_end(model, link)
        wrap.local_backward = self.timed('backward', wrap.local_backward)
        wrap.backward = self.timed('backward', wrap.backward, last=True)
        wrap._wait_for_gradients = self.timed('wait', wrap._wait_for_gradients)
        wrap.optimizer.step = self.timed('step', wrap.optimizer.step)

    def note(self, parameter: nn.Parameter) -> None:
        """Hook: a gradient has come."""
        self.last_gradient = time.monotonic()

    def timed(self, name: str, function: Callable, last=False) -> Callable:
        """``function``, logged; DDP waits inside of the last backward."""

        def call(*args):
            start = time.monotonic()
            result = function(*args)
            end = time.monotonic()
            done = self.last_gradient if last else end
            self.events.append(dict(name=name, start=start, end=done))
            if last:
                self.events.append(dict(name='wait', start=done, end=end))
            return result

        return call

    def step(self, batch: dict) -> dict:
        """Train a step; returns its trace, in seconds from its start."""
        batch = deepcopy(batch)
        self.events.clear()
        self.link.events.clear()
        dist.barrier()
        start = time.monotonic()
        self.model.train_step(batch, self.wrap)
        length = time.monotonic() - start
        last = [e for e in self.events if e['name'] == 'backward'][-1]
        early = sum(
            sum(e['modules'].values())
            for e in self.link.events
            if e['asked'] < last['start']
        )
        events = deepcopy([self.events, self.link.events])
        for event in [*events[0], *events[1]]:
            for key in {'asked', 'start', 'end'} & set(event):
                event[key] -= start
        return dict(
            length=length, early=early, compute=events[0], link=events[1]
        )


def wrap_ours(model: nn.Module, link: Link, owner: dict) -> nn.Module:
    outer = LocalDistributedDataParallel(model, bucket_cap_mb=5)
    reducer = outer.gradient_reducer

    def all_reduce(tensor: Tensor) -> torch.futures.Future:
        # In the observed step there are no buckets yet.
        sent = [b for b in reducer._buckets or [] if b._message is tensor]
        parts = {sent[0].module: tensor.nbytes} if sent else {}
        return link.all_reduce(tensor, parts)

    reducer.all_reduce = all_reduce
    return outer


def wrap_ddp(model: nn.Module, link: Link, owner: dict) -> nn.Module:
    outer = MMDistributedDataParallel(
        model,
        broadcast_buffers=False,
        find_unused_parameters=True,
        bucket_cap_mb=5,
    )

    def hook(state, bucket):
        parts: dict[int, int] = {}
        for param in bucket.parameters():
            module = owner[id(param)]
            parts[module] = parts.get(module, 0) + param.nbytes
        buffer = bucket.buffer().div_(dist.get_world_size())
        return link.all_reduce(buffer, parts)

    outer.register_comm_hook(None, hook)
    return outer


def reduce_at_end(model: nn.Module, link: Link) -> None:
    gradients = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in gradients])
    link.all_reduce(flat.div_(dist.get_world_size())).wait()
    sizes = [g.numel() for g in gradients]
    for gradient, part in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


WRAP = {OURS: wrap_ours, DDP: wrap_ddp, END: lambda model, *_: model}


def owners(model: nn.Module) -> dict[int, int]:
    """Module of each parameter, by id, as the reducer observes it."""
    outer = LocalDistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    outer.train_step(make_batch(0), LocalOptimWrapper(optimizer=optimizer))
    buckets = outer.gradient_reducer._buckets
    found = {id(p): bucket.module for bucket in buckets for p in bucket.params}
    for handle in outer.gradient_reducer._handles:
        handle.remove()
    return found


def make_model(boundaries: Sequence[str] = CUTS) -> nn.Module:
    """DeepLabV3-R18 of the CamVid config, by default in three modules."""
    cfg = Config.fromfile(ROOT / 'configs/infopro/deeplabv3_r18_camvid.py')
    text = cfg.model.to_dict()
    text['backbone']['boundaries'] = list(boundaries)
    text = json.loads(json.dumps(text).replace('"SyncBN"', '"BN"'))
    text['auxiliary_head'] = None
    text['backbone']['backbone']['out_indices'] = (3,)
    text['decode_head']['in_index'] = 0
    text['backbone']['backbone'].pop('init_cfg', None)
    text['data_preprocessor']['size'] = [48, 48]
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(Config(text)._cfg_dict)


def make_batch(seed: int, size: int = 2, side: int = 48) -> dict:
    """Random images and labels."""
    from mmseg.structures import SegDataSample

    torch.manual_seed(seed)
    samples = []
    for _ in range(size):
        label = PixelData(data=torch.randint(0, 11, (1, side, side)))
        sample = SegDataSample(gt_sem_seg=label)
        sample.set_metainfo(dict(img_shape=(side, side)))
        samples.append(sample)
    images = torch.randint(0, 256, (size, 3, side, side)).byte()
    return dict(inputs=list(images), data_samples=samples)


def measure(rank: int, args: argparse.Namespace, folder: str) -> None:
    """One rank: train in turns; rank 0 writes what it has measured."""
    torch.set_num_threads(1)
    MMLogger.get_instance('overlap', log_level='ERROR')
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=args.ranks,
    )
    result: dict = {}
    for speed in args.link:
        traces: dict[str, list] = {kind: [] for kind in WRAP}
        trainings = {}
        for kind in WRAP:
            model = make_model()
            owner = owners(model)
            link = Link(speed * 1e9)
            trainings[kind] = Training(kind, model, link, owner)
        sizes = [0] * (max(owner.values()) + 1)
        for param in model.parameters():
            sizes[owner[id(param)]] += param.nbytes
        for step in range(args.steps + 3):
            batch = make_batch(args.ranks * step + rank)
            for kind, training in trainings.items():
                trace = training.step(batch)
                if step >= 3:
                    traces[kind].append(trace)
        result[str(speed)] = dict(traces=traces, sizes=sizes)
    if rank == 0:
        Path(folder, 'result.json').write_text(json.dumps(result))


def table(result: dict) -> str:
    """Median step and what came before the last backward, by link."""
    lines = [
        '| link | | step, ms | compared with ours | sent before the last '
        'backward |',
        '| --- | --- | --- | --- | --- |',
    ]
    for speed, found in result.items():
        name = 'not slowed' if speed == 'inf' else f'{speed} GB/s'
        total = sum(found['sizes'])
        ours = [trace['length'] for trace in found['traces'][OURS]]
        for kind, traces in found['traces'].items():
            steps = [trace['length'] for trace in traces]
            pairs = zip(steps, ours, strict=True)
            ratio = median(step / own for step, own in pairs)
            early = median(trace['early'] for trace in traces) / total
            lines.append(
                f'| {name} | {kind} | {1e3 * median(steps):.0f} | '
                f'{ratio:.2f} | {early:.0%} |'
            )
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--link',
        nargs='+',
        type=float,
        default=[0.2, 0.4, math.inf],
        help='GB/s; the first one is drawn',
    )
    parser.add_argument('--ranks', type=int, default=2)
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--figure', type=Path, help='PNG or SVG')
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
        result = json.loads(Path(folder, 'result.json').read_text())
    sizes = next(iter(result.values()))['sizes']
    print(
        'bytes of the modules:', ', '.join(f'{s / 1e6:.1f} MB' for s in sizes)
    )
    print(table(result))
    if args.figure is not None:
        from timeline import draw

        draw(next(iter(result.values()))['traces'], args.figure)


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    main()
