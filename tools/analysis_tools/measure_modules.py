"""Measure what each module knows, of checkpoints of a training."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from mmlocal.analysis import (
    Extractor,
    Source,
    Taps,
    build_measures,
    measure_modules,
)
from mmlocal.analysis.record import MeasureFile
from mmlocal.apis import cli
from mmlocal.apis.zoo import get_model
from mmlocal.apis.zoo.checkpoints import load_weights

# Weights as they are before training.
INITIAL = 'initial'
MEASURES = {
    'probe': 'LinearProbe',
    'frames': 'FrameProbe',
    'nhsic': 'NHSICPlane',
    'mine': 'MutualInformation',
    'cka': 'CKA',
    'rank': 'EffectiveRank',
}


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description=f'{__doc__} A measured checkpoint is not measured again.'
    )
    parser.add_argument(
        'config', type=cli.existing_file, help='that of the training'
    )
    parser.add_argument(
        'checkpoints',
        nargs='+',
        type=_checkpoint,
        help=f'files, or {INITIAL!r} for the weights before training',
    )
    parser.add_argument(
        '--measure',
        nargs='+',
        choices=MEASURES,
        default=['probe', 'nhsic', 'cka'],
        help='what; by default probe nhsic cka',
    )
    cli.add_options(
        parser,
        '--set',
        help='settings of measures, as nhsic.num_batches=4 '
        'probe.num_images=5000',
        metavar='MEASURE.KEY=VALUE',
    )
    parser.add_argument('--out', required=True, metavar='JSON')
    parser.add_argument('--plot', metavar='PNG', help='draw all of it here')
    parser.add_argument(
        '--label',
        metavar='TEXT',
        help='what to call the network in the table and the picture, where '
        'the JSON is to hold several',
    )
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        '--outputs',
        nargs='+',
        metavar='NAME',
        help='submodules of the backbone to look behind, in place of modules',
    )
    places.add_argument(
        '--like',
        metavar='CONFIG',
        type=cli.existing_file,
        help='cut where this config is cut; for models trained end to end',
    )
    parser.add_argument(
        '--reference',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another network, to which cka compares; cut alike',
    )
    parser.add_argument(
        '--batch-size', type=int, help='by default that of val_dataloader'
    )
    parser.add_argument('--device', help='by default an accelerator')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help=f'of {INITIAL!r} weights; by default 0',
    )
    cli.add_options(parser)
    return parser


def run(args: Namespace, console: Console) -> None:
    """Measure, write, print."""
    cfg = cli.read_config(args.config, args.cfg_options)
    measures = build_measures(_measure_cfgs(args, cfg))
    splits = {r.split for each in measures for r in each.readings.values()}
    cli.check_data(cfg, tuple(f'{split}_dataloader' for split in splits))
    source = Source(cfg, args.batch_size)
    cuts = None
    if args.like:
        like = get_model(args.like, False, 'cpu', local_heads=True)
        cuts = like.backbone.boundaries
    model = get_model(cfg, False, args.device, local_heads=True)
    taps = Taps(model, cuts, args.outputs)
    file = MeasureFile(Path(args.out))
    with TemporaryDirectory() as folder:
        reference = None
        if args.reference:
            reference = _reference(args, source, taps, folder)
        for path in args.checkpoints:
            place = _load(model, path, args.seed)
            if args.label:
                place['label'] = args.label
            missing = file.missing(place, taps.names, measures)
            console.print(
                f'{path}: {", ".join(each.name for each in missing)}'
                if missing
                else f'{path}: measured already'
            )
            with TemporaryDirectory(dir=folder) as maps:
                extractor = Extractor(model, taps, source, Path(maps))
                values = measure_modules(missing, extractor, reference)
            if missing:
                file.add(place, taps.names, missing, values)
    for measure in measures:
        table = _table(file.entries, measure.name)
        if len(table.columns) > 2:
            console.print(table)
    console.print(f'written: {args.out}')
    if args.plot:
        from mmlocal.analysis.plots import plot_measures

        plot_measures(file.entries, args.plot)
        console.print(f'drawn: {args.plot}')


def _measure_cfgs(args: Namespace, cfg: Config) -> Iterator[dict[str, Any]]:
    settings = Config()
    settings.merge_from_dict(args.set)
    unknown = {*settings} - {*args.measure}
    if unknown:
        raise ValueError(
            f'--set {", ".join(sorted(unknown))}: not among --measure '
            f'{" ".join(args.measure)}.'
        )
    for name in dict.fromkeys(args.measure):
        kind = MEASURES[name]
        if name == 'probe' and cfg.get('default_scope') == 'mmseg':
            kind = 'SegmentationProbe'
        yield {'type': kind, **settings.get(name, {})}


def _reference(
    args: Namespace, source: Source, taps: Taps, folder: str
) -> Extractor:
    config, checkpoint = args.reference
    model = get_model(config, False, args.device, local_heads=True)
    cuts = None if taps.outputs else taps.boundaries
    other = Taps(model, cuts, taps.outputs)
    _load(model, checkpoint, args.seed)
    return Extractor(model, other, source, Path(folder))


def _load(model: nn.Module, path: str, seed: int) -> dict[str, Any]:
    """Load weights; which they are."""
    if path == INITIAL:
        torch.manual_seed(seed)
        model.init_weights()
        return {
            'checkpoint': f'{INITIAL} (seed {seed})',
            'epoch': 0,
            'iter': 0,
        }
    return load_weights(model, path)


def _table(entries: Sequence[dict[str, Any]], measure: str) -> Table:
    """The single numbers of a measure, a row a module."""
    names: dict[str, None] = {}
    for entry in entries:
        for name, values in entry['measures'].get(measure, {}).items():
            if not isinstance(values[0], list) and not name.endswith('_sem'):
                names[name] = None
    table = Table(box=box.SIMPLE)
    table.add_column(measure, no_wrap=True)
    table.add_column('module', no_wrap=True)
    for name in names:
        table.add_column(name, justify='right', no_wrap=True)
    for entry in entries:
        values = entry['measures'].get(measure, {})
        place = (entry.get('label'), entry['checkpoint'])
        for index, module in enumerate(entry['modules']):
            table.add_row(
                '' if index else ', '.join(map(str, filter(None, place))),
                module.removeprefix('module '),
                *(_cell(values.get(name), index) for name in names),
                end_section=index == len(entry['modules']) - 1,
            )
    return table


def _cell(values: Sequence[float | None] | None, index: int) -> str:
    if values is None or values[index] is None:
        return ''
    return f'{values[index]:.4g}'


def _checkpoint(path: str) -> str:
    return path if path == INITIAL else cli.existing_file(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    with cli.one_line_errors(parser):
        run(args, Console())


if __name__ == '__main__':
    main()
