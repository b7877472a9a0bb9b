"""Draw images of a config as the network gets them, with their annotation."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from PIL import Image

from mmlocal.apis import cli
from mmlocal.config import innermost_dataset, type_name
from mmlocal.step import to_pixels
from mmlocal.visualization import (
    Prediction,
    annotation_of,
    draw_annotations,
    to_images,
)


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description=f'{__doc__} After all transforms and the data '
        'preprocessor: a mask that is shifted, channels in another order or '
        'a crop that leaves nothing are seen here.'
    )
    parser.add_argument(
        'config', type=cli.existing_file, help='what is to be trained'
    )
    parser.add_argument(
        '--out', metavar='PNG', required=True, help='write the picture here'
    )
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        default='train',
        help='whose data; train by default',
    )
    parser.add_argument(
        '--number',
        type=int,
        default=12,
        help='how many images, evenly over the data set; 12 by default',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the crops')
    cli.add_options(parser)
    return parser


def annotated(
    cfg: Config, split: str, number: int
) -> tuple[list[Prediction], dict[str, Any]]:
    """Images with their annotations, and what the data set says of classes.

    Args:
        cfg (Config): Of a training.
        split (str): 'train', 'val' or 'test'.
        number (int): How many images. Of one with several views, there is
            one of each view.

    Raises:
        ValueError: If the config has no such data, or there are not as many
            images, or they are waveforms.
    """
    loader_cfg = cfg.get(f'{split}_dataloader')
    if loader_cfg is None:
        raise ValueError(f'{cfg.filename} has no {split}_dataloader.')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    # Its workers would be started for nothing.
    loader_cfg = {**loader_cfg, 'num_workers': 0, 'persistent_workers': False}
    dataset = Runner.build_dataloader(loader_cfg).dataset
    if not 1 <= number <= len(dataset):
        raise ValueError(
            f'--number {number}: write one from 1 to {len(dataset)}, as many '
            'images as there are.'
        )
    preprocessor = {
        'type': 'mmpretrain.ClsDataPreprocessor',
        **(cfg.model.get('data_preprocessor') or {}),
        **(cfg.get('data_preprocessor') or {}),
    }
    preprocess = MODELS.build(preprocessor)
    rgb = _is_rgb(loader_cfg, preprocessor)
    found = []
    for index in np.linspace(0, len(dataset) - 1, number).round().astype(int):
        batch = pseudo_collate([dataset[int(index)]])
        data = preprocess(batch, training=split == 'train')
        if data['inputs'].ndim != 4:
            raise ValueError(
                f'{cfg.filename} trains on waveforms, and this draws images.'
            )
        pixels = to_pixels(data['inputs'], preprocess)
        truth = annotation_of(data['data_samples'][0])
        for view in to_images(pixels.expand(-1, 3, -1, -1), rgb):
            found.append(Prediction('', seen=view, truth=truth))
    return found, getattr(dataset, 'metainfo', {})


def _is_rgb(loader: dict, preprocessor: dict) -> bool:
    """OpenCV reads BGR; images that come as arrays are RGB."""
    pipeline = innermost_dataset(loader['dataset']).get('pipeline') or []
    kinds = [type_name(transform['type']) for transform in pipeline]
    converted = any(preprocessor.get(k) for k in ('bgr_to_rgb', 'to_rgb'))
    return ('LoadImageFromFile' not in kinds) != converted


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    with cli.one_line_errors(parser):
        cfg = cli.read_config(args.config, args.cfg_options)
        cli.check_data(cfg, (f'{args.split}_dataloader',))
        set_random_seed(args.seed)
        found, meta = annotated(cfg, args.split, args.number)
        picture = draw_annotations(
            found, meta.get('classes'), meta.get('palette')
        )
        Image.fromarray(picture).save(args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
