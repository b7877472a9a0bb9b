"""Train a model, of mmseg or of mmpretrain."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from mmengine.config import Config

from mmlocal.apis import cli


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', type=cli.existing_file, help='what to train, and how'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        type=_auto_or_checkpoint,
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or without a name from the latest '
        'in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision'
    )
    cli.add_arguments(parser)
    return parser


def make_config(args: Namespace) -> Config:
    """The config with the options of the command line in it."""
    cfg = cli.load_config(args)
    if args.amp:
        cli.use_amp(cfg)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    cli.check_data(cfg, cli.LOADERS[:2])
    return cfg


def _auto_or_checkpoint(value: str) -> str:
    return value if value == 'auto' else cli.checkpoint_file(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    cfg = cli.parse_config(make_parser(), make_config, argv)
    cli.build_runner(cfg).train()
    cli.leave_ranks()


if __name__ == '__main__':
    main()
