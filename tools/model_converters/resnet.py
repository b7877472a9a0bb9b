"""Convert a ResNet of torchvision or timm to mm's keys."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.zoo.converters import convert_timm, convert_torchvision

CONVERTERS = {'torchvision': convert_torchvision, 'timm': convert_timm}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('library', choices=CONVERTERS)
    parser.add_argument('checkpoint', type=cli.existing_file)
    parser.add_argument('out', help='the file to write, *.pth')
    parser.add_argument(
        '--backbone-only',
        action='store_true',
        help='drop the classifier, to start a segmentor from',
    )
    args = parser.parse_args(argv)
    cli.convert_file(
        parser,
        args.checkpoint,
        args.out,
        lambda checkpoint: CONVERTERS[args.library](
            checkpoint, classifier=not args.backbone_only
        ),
    )


if __name__ == '__main__':
    main()
