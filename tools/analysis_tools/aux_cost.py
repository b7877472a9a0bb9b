"""Say what local heads cost beside the modules that they train."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table

from mmlocal.apis import cli
from mmlocal.planner.aux_cost import ModuleCost, aux_cost, total


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description=f'{__doc__} Multiply-accumulates are those of a forward, '
        'an image.'
    )
    parser.add_argument(
        'config', type=cli.existing_file, help='a config of local training'
    )
    parser.add_argument('--out', metavar='JSON', help='write all of it here')
    cli.add_options(
        parser,
        help='settings that replace those of the config, as '
        'model.backbone.local_heads.net=cnn',
    )
    return parser


def report(args: Namespace, console: Console) -> None:
    """Count, print, write."""
    cfg = cli.read_config(args.config, args.cfg_options)
    costs = aux_cost(cfg)
    console.print(make_table(costs))
    if args.out:
        content = {
            'modules': [as_dict(cost) for cost in costs],
            'sum': as_dict(total(costs)),
        }
        Path(args.out).write_text(json.dumps(content, indent=2) + '\n')
        console.print(f'written: {args.out}')


def make_table(costs: Sequence[ModuleCost]) -> Table:
    """A row a module; then the sum over those that have a local head."""
    table = Table(box=box.SIMPLE)
    table.add_column('module from', no_wrap=True)
    for what in 'MACs', 'params':
        for column in what, 'head', '%':
            table.add_column(column, justify='right', no_wrap=True)
    for cost in costs:
        table.add_row(
            cost.begin or 'the image',
            *_cells(cost),
            end_section=cost is costs[-1],
        )
    table.add_row('with a head', *_cells(total(costs)))
    return table


def as_dict(cost: ModuleCost) -> dict[str, str | float | None]:
    """With the ratios of head to module; None without a head."""
    macs, params = _ratios(cost)
    return asdict(cost) | {'macs_ratio': macs, 'params_ratio': params}


def _cells(cost: ModuleCost) -> list[str]:
    cells = []
    for own, head, ratio in zip(
        (cost.macs, cost.params),
        (cost.head_macs, cost.head_params),
        _ratios(cost),
        strict=True,
    ):
        cells += [
            _short(own),
            '' if head is None else _short(head),
            '' if ratio is None else _percent(ratio),
        ]
    return cells


def _ratios(cost: ModuleCost) -> list[float | None]:
    """Of multiply-accumulates and of parameters."""
    return [
        head / own if own and head is not None else None
        for own, head in (
            (cost.macs, cost.head_macs),
            (cost.params, cost.head_params),
        )
    ]


def _percent(ratio: float) -> str:
    return f'{100 * ratio:.{0 if ratio >= 10 else 1}f}'


def _short(number: float) -> str:
    for unit, size in ('G', 1e9), ('M', 1e6), ('K', 1e3):
        if number >= size:
            return f'{number / size:.2f} {unit}'
    return f'{number:.0f}'


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    try:
        report(args, Console())
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')


if __name__ == '__main__':
    main()
