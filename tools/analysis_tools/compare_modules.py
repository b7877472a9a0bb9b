"""Put trainings side by side on one HTML page, to look at and to send."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger
from rich.console import Console

from mmlocal.analysis.page import make_page, read_runs
from mmlocal.apis import cli


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description=f'{__doc__} The page has curves, local losses, metrics '
        'and measurements by module, pictures, and what differs between the '
        'configs. It needs no other file, no server and no network.'
    )
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='work dir of a training, or DIR=LABEL to name it',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('compare.html'),
        metavar='HTML',
        help='the page (default: compare.html)',
    )
    parser.add_argument('--title', default='', help='by default the labels')
    parser.add_argument(
        '--pictures',
        type=_count,
        default=2,
        metavar='N',
        help='the most of one run, the newest first (default: 2)',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    console = Console(soft_wrap=True, highlight=False)
    with cli.one_line_errors(parser):
        if not args.out.parent.is_dir():
            raise FileNotFoundError(
                f'--out {args.out}: there is no folder {args.out.parent}'
            )
        runs = read_runs(args.runs)
        html = make_page(runs, args.title, args.pictures)
        args.out.write_text(html, encoding='utf-8')
    for run in runs:
        for note in run.notes:
            console.print(f'{run.label}: {note}', markup=False)
    size = args.out.stat().st_size / 1e6
    console.print(f'written: {args.out} ({size:.1f} MB)', markup=False)


def _count(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f'{text} is no number of pictures')
    return int(text)


if __name__ == '__main__':
    main()
