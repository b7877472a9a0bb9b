"""Join the module files of the authors' Greedy InfoMax code (vision)."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.zoo.converters import convert_gim


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoints',
        nargs='+',
        type=cli.existing_file,
        help='model_0_<epoch>.ckpt, model_1_<epoch>.ckpt, ...',
    )
    parser.add_argument('--out', required=True, help='the file to write')
    parser.add_argument(
        '--local-heads', action='store_true', help='keep the matrices W_k'
    )
    args = parser.parse_args(argv)
    cli.convert_file(
        parser,
        args.checkpoints,
        args.out,
        lambda *files: convert_gim(files, args.local_heads),
    )


if __name__ == '__main__':
    main()
