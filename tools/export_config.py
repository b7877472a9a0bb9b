"""Write the plain mmseg or mmpretrain config of a locally trained model."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.export import export_config


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path, or name in the model zoo')
    parser.add_argument('out', help='the file to write, *.py')
    args = parser.parse_args(argv)
    with cli.one_line_errors(parser):
        print(export_config(args.config, args.out))


if __name__ == '__main__':
    main()
