"""Say what a split of a network costs in memory, without a GPU."""

from __future__ import annotations

from argparse import (
    ArgumentParser,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.console import Console

from mmlocal.apis import cli
from mmlocal.config import type_name
from mmlocal.planner import (
    MAX_MODULES,
    Planner,
    Row,
    Simulator,
    StepReport,
    TrainingSetting,
    config_lines,
    describe_floor,
    parse_budget,
    report,
    sharded_memory,
    stages_memory,
    warnings_of,
)

GIB = 2**30
EXAMPLES = """\
The config may be one of MMLocal, or any of mmseg and mmpretrain.

  %(prog)s configs/infopro/deeplabv3_r101_cityscapes.py --plot plan.png
  %(prog)s configs/infopro/deeplabv3_r101_cityscapes.py --budget 10GiB
  %(prog)s convnext-tiny_32xb128_in1k.py --budget 0.5 --amp
"""


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'config', type=cli.existing_file, help='what is to be trained'
    )
    parser.add_argument(
        '--budget',
        help="memory to fit into: 10GiB, 9.5GB, or a part of end to end's, "
        'as 0.5',
    )
    parser.add_argument('--batch-size', type=int, help='images a GPU')
    parser.add_argument(
        '--crop-size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images that are trained on',
    )
    parser.add_argument(
        '--amp',
        action=BooleanOptionalAction,
        help="mixed precision or not, in place of the config's",
    )
    parser.add_argument(
        '--max-modules', type=int, default=4, help='largest K in the table'
    )
    parser.add_argument(
        '--device',
        choices=('cuda', 'cpu'),
        default='cuda',
        help='whose rules of allocation and autocast hold',
    )
    parser.add_argument(
        '--ranks',
        type=int,
        help='also say what each of so many GPUs holds if LocalFSDP shards '
        'the model, or ModuleParallel divides it; batch sizes are those of a '
        'GPU',
    )
    parser.add_argument('--out', metavar='JSON', help='write all of it here')
    parser.add_argument(
        '--plot', metavar='PNG', help='draw the memory over one step'
    )
    cli.add_options(parser)
    return parser


def make_config(args: Namespace) -> Config:
    """The config with the options of the command line in it."""
    return cli.read_config(args.config, args.cfg_options)


def plan(cfg: Config, args: Namespace, console: Console) -> None:
    """Compare, answer, write."""
    crop = tuple(args.crop_size) if args.crop_size else None
    with console.status('building the model') as status:
        setting = TrainingSetting(
            cfg, args.batch_size, crop, args.amp, args.device
        )
        simulator = Simulator(setting)
        planner = Planner(simulator, status.update)
        budget = args.budget and parse_budget(
            args.budget, planner.end_to_end.peak
        )
        rows = planner.compare(args.max_modules)
        if simulator.own_split is not None and setting.is_local:
            rows.insert(0, planner.own_row(simulator.own_split))
    console.print(
        f'{setting.inputs}, {setting.precision}, {setting.optimizer}'
    )
    console.print(report.table(rows, budget))
    content: dict[str, Any] = {'rows': [_row(row) for row in rows]}
    chosen = rows[0].report if setting.is_local else None
    if budget:
        with console.status('searching') as status:
            planner.progress = status.update
            chosen, fits = planner.within(
                budget, max(args.max_modules, MAX_MODULES)
            )
            batch = planner.largest_batch(chosen.split, budget)
        _answer(console, planner, chosen, budget, fits, batch, args.config)
        content |= {
            'budget': budget,
            'fits': fits,
            'plan': report.to_dict(chosen),
            'largest_batch': batch,
        }
    chosen = chosen or min((row.report for row in rows), key=_peak)
    console.print(report.breakdown(chosen))
    if args.ranks:
        with console.status('running one rank'):
            lines, content['ranks'] = _ranks(
                cfg, simulator, chosen, args.ranks
            )
        console.print('\n'.join(lines))
    for name, reason in planner.unavailable.items():
        console.print(f'[yellow]{name}: {reason}')
    for warning in warnings_of([row.report for row in rows]):
        console.print(f'[yellow]{warning}')
    if args.out:
        report.write_json(args.out, content)
        console.print(f'written: {args.out}')
    if args.plot:
        with console.status('drawing'):
            _draw(args.plot, simulator, chosen)
        console.print(f'written: {args.plot}')


def _ranks(
    cfg: Config, simulator: Simulator, chosen: StepReport, ranks: int
) -> tuple[list[str], dict[str, Any]]:
    """What one of several GPUs holds, by wrapper."""
    wrapper = cfg.get('model_wrapper_cfg') or {}
    name = type_name(wrapper.get('type'))
    options = wrapper if name == 'LocalFSDP' else {}
    shard = sharded_memory(simulator, chosen.split, ranks, options)
    lines = [
        f'One of {ranks} GPUs: {chosen.peak / GIB:.2f} GiB with '
        'LocalDistributedDataParallel,',
        f'at most {shard.peak / GIB:.2f} GiB with LocalFSDP '
        f'({shard.weights / GIB:.3f} of weights, at most '
        f'{shard.gathered / GIB:.3f} whole at a time),',
    ]
    content: dict[str, Any] = {'LocalFSDP': asdict(shard)}
    options = wrapper if name == 'ModuleParallel' else {}
    try:
        stages = stages_memory(simulator, chosen.split, ranks, options)
    except ValueError as error:
        return [*lines, f'none with ModuleParallel: {error}'], content
    content['ModuleParallel'] = [asdict(stage) for stage in stages]
    lines += [
        f'at most {stage.peak / GIB:.2f} GiB with ModuleParallel in stage '
        f'{number} ({stage.weights / GIB:.3f} of weights; modules: '
        f'{stage.modules}).'
        for number, stage in enumerate(stages, 1)
    ]
    return lines, content


def _answer(
    console: Console,
    planner: Planner,
    chosen: StepReport,
    budget: int,
    fits: bool,
    batch: int | None,
    base: str,
) -> None:
    row = planner.row('', chosen.split)
    if not fits:
        console.print(
            f'[red]Nothing fits into {budget / GIB:.2f} GiB.[/] The closest '
            f'plan takes {chosen.peak / GIB:.2f} GiB; what holds it there: '
            f'{describe_floor(chosen)}.'
        )
    else:
        console.print(
            f'[green]Fits into {budget / GIB:.2f} GiB[/] with the least '
            f'compute: {chosen.peak / GIB:.2f} GiB ({row.share:.3f} of end '
            f'to end), {row.extra:+.1%} compute.'
        )
    lines = config_lines(chosen, planner.simulator.setting, base)
    console.print(lines, markup=False, highlight=False, soft_wrap=True)
    if batch is None:
        console.print('Which batch fits is not known: no other one runs.')
    elif not batch:
        console.print('No batch fits so, not even the smallest that runs.')
    elif fits:
        console.print(f'Largest batch that fits so: {batch} images.')
    else:
        console.print(
            f'With that plan it takes a batch of at most {batch} images.'
        )


def _row(row: Row) -> dict[str, Any]:
    fields = asdict(row)
    fields.update(report.to_dict(row.report))
    del fields['report']
    return fields


def _peak(step: StepReport) -> int:
    return step.peak


def _draw(path: str, simulator: Simulator, chosen: StepReport) -> None:
    base = simulator.measure(type(chosen.split)([], [None]), keep=True)
    step = simulator.measure(chosen.split, keep=True)
    modes = sorted({mode for mode in step.split.checkpointing if mode})
    title = f'K={len(step.split.boundaries) + 1}'
    if step.split.boundaries:
        title += f', cut before {", ".join(step.split.boundaries)}'
    if modes:
        title += f', {" and ".join(modes)} checkpointing'
    report.plot(path, step, base, title)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    try:
        plan(make_config(args), args, Console())
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')


if __name__ == '__main__':
    main()
