"""Download published weights into the cache, for machines without network.

Without a name, the names are listed.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from mmlocal.apis import cli
from mmlocal.apis.zoo.releases import RELEASES, download, no_weights


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', metavar='NAME')
    parser.add_argument('--quiet', action='store_true', help='draw no bar')
    args = parser.parse_args(argv)
    if not args.names:
        print('\n'.join(RELEASES))
    with cli.one_line_errors(parser):
        for name in args.names:
            if name not in RELEASES:
                raise ValueError(no_weights(name))
        for name in args.names:
            print(download(name, progress=not args.quiet))


if __name__ == '__main__':
    main()
