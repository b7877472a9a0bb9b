"""Write a trained model as ONNX (needs pip install 'mmlocal[onnx]')."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path, or name in the model zoo')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        type=cli.existing_file,
        help='by default the published weights of the name',
    )
    parser.add_argument('out', help='the file to write, *.onnx')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(224, 224),
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images; 224 224 by default',
    )
    args = parser.parse_args(argv)
    with cli.one_line_errors(parser):
        from mmlocal.apis.export.onnx import export_onnx

        out = export_onnx(args.config, args.checkpoint, args.out, args.size)
        print(out)


if __name__ == '__main__':
    main()
