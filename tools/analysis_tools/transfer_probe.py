"""Measure how the features of checkpoints serve another data set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.console import Console

from mmlocal.analysis import Extractor, Source, Taps, measure_modules
from mmlocal.analysis.measure import Values
from mmlocal.analysis.mine import MutualInformation
from mmlocal.analysis.record import MeasureFile
from mmlocal.analysis.tradeoff import (
    InTheEyesOf,
    logged_accuracy,
    measured_accuracy,
    plot_tradeoff,
    write_csv,
)
from mmlocal.analysis.transfer import DriftingTransfer, TransferProbe
from mmlocal.apis import cli
from mmlocal.apis.zoo import FOLDER, get_model
from mmlocal.apis.zoo.checkpoints import load_weights

DATASETS = FOLDER / 'configs/_base_/datasets'


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description=f'{__doc__} Beside it stand their accuracy on their own '
        'data, and mutual information (MINE). A measured checkpoint is not '
        'measured again.'
    )
    parser.add_argument(
        'config', type=cli.existing_file, help='that of the training'
    )
    parser.add_argument(
        'target',
        help='a config with train_dataloader and val_dataloader, or a name '
        'of configs/_base_/datasets, as svhn',
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        required=True,
        type=cli.existing_file,
        metavar='FILE',
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='JSON',
        help='written here, and as a table beside it (.csv)',
    )
    parser.add_argument('--plot', metavar='PNG', help='draw it here')
    cli.add_options(
        parser,
        '--beside',
        help='reports of other trainings to draw beside it, as '
        'ctc=work_dirs/ctc/transfer.json',
        metavar='NAME=JSON',
    )
    parser.add_argument(
        '--bn-mode',
        choices=['frozen', 'batch'],
        default='frozen',
        help='batch normalization by the statistics of the source (default), '
        'or, as published, by those of each batch of the target',
    )
    parser.add_argument(
        '--select',
        choices=['held_out', 'last', 'best'],
        default='held_out',
        help='the epoch that is read: the best on a held-out part of the '
        'training data (default), the last, or, as published, the best on '
        'the test data',
    )
    parser.add_argument(
        '--mine',
        nargs='*',
        choices=['source', 'target'],
        default=['target'],
        help='data on which mutual information is measured; by default '
        'target; without a word, none',
    )
    cli.add_options(
        parser,
        '--set',
        help='settings, as transfer.epochs=10 mine.repeats=1',
        metavar='MEASURE.KEY=VALUE',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        help='of reading features; by default that of val_dataloader',
    )
    parser.add_argument('--device', help='by default an accelerator')
    cli.add_options(parser)
    cli.add_options(
        parser,
        '--target-options',
        help='settings that replace those of the target',
    )
    return parser


class Job(NamedTuple):
    """One measure, with what :class:`MeasureFile` asks of it.

    Attributes:
        name (str): In the report.
        settings (Callable): Gives what the values depend on.
        measure (Callable): Measures a checkpoint, in a folder.
    """

    name: str
    settings: Callable[[], dict[str, Any]]
    measure: Callable[[str, int | None, Path], Values]


def run(args: Namespace, console: Console) -> None:
    """Measure, write, print."""
    cfg = cli.read_config(args.config, args.cfg_options)
    target = target_config(args.target, cfg)
    cli.check_options(target, args.target_options)
    target.merge_from_dict(args.target_options)
    loaders = 'train_dataloader', 'val_dataloader'
    cli.check_data(target, loaders)
    if not target.get(loaders[0]):
        raise ValueError(f'{args.target} has no train_dataloader.')
    model = get_model(cfg, False, args.device, local_heads=True)
    jobs = list(_jobs(args, model, cfg, target))
    modules = ['last']
    file = MeasureFile(Path(args.out))
    beside = {}
    for name, path in args.beside.items():
        if not Path(path).is_file():
            raise ValueError(f'--beside {name}: there is no file {path}.')
        beside[name] = MeasureFile(Path(path)).entries
    others = {entry.get('target') for entry in file.entries} - {args.target}
    if others:
        raise ValueError(
            f'{args.out} is of another target, {", ".join(map(str, others))}:'
            ' write another name.'
        )
    for path in args.checkpoints:
        place = load_weights(model, path) | {'target': args.target}
        missing = file.missing(place, modules, jobs)
        if not missing:
            console.print(f'{path}: measured already')
        for job in missing:
            with TemporaryDirectory() as folder:
                values = job.measure(path, place['epoch'], Path(folder))
            file.add(place, modules, [job], {job.name: values})
            console.print(
                f'{path}: {job.name}  {_text(values)}', soft_wrap=True
            )
    table = Path(args.out).with_suffix('.csv')
    write_csv(file.entries, table)
    console.print(f'written: {args.out}, {table}')
    if args.plot:
        plot_tradeoff(
            {Path(args.config).stem: file.entries, **beside}, args.plot
        )
        console.print(f'drawn: {args.plot}')


def target_config(name: str, cfg: Config) -> Config:
    """The config of a target, by path or name.

    Args:
        name (str): A path that ends in .py, or a name of a data set.
        cfg (Config): Of the source, whose scope it takes if it has none.

    Raises:
        ValueError: If there is no such config; names those that there are.
    """
    path = Path(name) if name.endswith('.py') else DATASETS / f'{name}.py'
    if not path.is_file():
        known = ', '.join(sorted(each.stem for each in DATASETS.glob('*.py')))
        raise ValueError(
            f'there is no config {name}: write a path (*.py) or one of '
            f'{known}.'
        )
    target = Config.fromfile(path)
    target.setdefault('default_scope', cfg.get('default_scope'))
    return target


def _jobs(
    args: Namespace, model: Any, cfg: Config, target: Config
) -> Iterator[Job]:
    settings = Config()
    settings.merge_from_dict(args.set)
    if unknown := {*settings} - {'transfer', 'mine'}:
        raise ValueError(
            f'--set {", ".join(sorted(unknown))}: write transfer.KEY=VALUE '
            'or mine.KEY=VALUE.'
        )
    own = Source(cfg, args.batch_size)
    other = Source(target, args.batch_size)
    seen = InTheEyesOf(model, target)
    # The backbone's last output, pooled.
    taps = Taps(model, boundaries=[])

    def source_accuracy(path: str, epoch: int | None, folder: Path) -> Values:
        accuracy = logged_accuracy(path, epoch)
        if accuracy is None:
            cli.check_data(cfg, ('val_dataloader',))
            accuracy = measured_accuracy(model, own)
        return {'accuracy': [accuracy]}

    yield Job('source', dict, source_accuracy)

    kwargs = {'select': args.select, **settings.get('transfer', {})}
    if args.bn_mode == 'batch':
        probe = DriftingTransfer(**kwargs)

        def transfer(path: str, epoch: int | None, folder: Path) -> Values:
            return probe.measure(seen, taps, other)
    else:
        probe = TransferProbe(**kwargs, device=args.device)

        def transfer(path: str, epoch: int | None, folder: Path) -> Values:
            extractor = Extractor(seen, taps, other, folder)
            return measure_modules([probe], extractor)[probe.name]

    yield Job(probe.name, probe.settings, transfer)

    mine = MutualInformation(**settings.get('mine', {}), device=args.device)
    for data, source, viewer in (
        ('source', own, model),
        ('target', other, seen),
    ):
        if data in args.mine:

            def information(
                path: str,
                epoch: int | None,
                folder: Path,
                source: Source = source,
                viewer: Any = viewer,
            ) -> Values:
                extractor = Extractor(viewer, taps, source, folder)
                return measure_modules([mine], extractor)[mine.name]

            yield Job(f'mine_{data}', mine.settings, information)


def _text(values: Values) -> str:
    return '  '.join(
        f'{name} {value:.4g}'
        for name, (value,) in values.items()
        if value is not None
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    with cli.one_line_errors(parser):
        run(args, Console())


if __name__ == '__main__':
    main()
