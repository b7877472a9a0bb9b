"""Keep the plain weights of a training's checkpoint, and nothing else."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.export import publish_model


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=cli.existing_file)
    parser.add_argument(
        'out', help='NAME.pth; date and hash are added to the name'
    )
    args = parser.parse_args(argv)
    with cli.one_line_errors(parser):
        print(publish_model(args.checkpoint, args.out))


if __name__ == '__main__':
    main()
