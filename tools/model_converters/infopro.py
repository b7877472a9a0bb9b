"""Convert a checkpoint of the authors' InfoPro code to mm's keys."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.zoo.converters import (
    convert_cifar,
    convert_cityscapes,
    convert_imagenet,
)

CONVERTERS = {
    'imagenet': convert_imagenet,
    'cityscapes': convert_cityscapes,
    'cifar': convert_cifar,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('code', choices=CONVERTERS, help='which code wrote it')
    parser.add_argument('checkpoint', type=cli.existing_file)
    parser.add_argument('out', help='the file to write, *.pth')
    parser.add_argument(
        '--local-heads',
        action='store_true',
        help='keep the auxiliary nets, for a config of configs/infopro',
    )
    args = parser.parse_args(argv)
    cli.convert_file(
        parser,
        args.checkpoint,
        args.out,
        lambda checkpoint: CONVERTERS[args.code](checkpoint, args.local_heads),
    )


if __name__ == '__main__':
    main()
