"""Convert a file of the authors' Greedy InfoMax code (audio)."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.zoo.converters import convert_gim_audio


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoint', type=cli.existing_file, help='model_<epoch>.ckpt'
    )
    parser.add_argument('--out', required=True, help='the file to write')
    parser.add_argument(
        '--local-heads',
        action='store_true',
        help='keep the matrices W_k and the recurrent nets of heads',
    )
    args = parser.parse_args(argv)
    cli.convert_file(
        parser,
        [args.checkpoint],
        args.out,
        lambda file: convert_gim_audio(file, args.local_heads),
    )


if __name__ == '__main__':
    main()
