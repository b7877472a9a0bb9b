"""Draw an image with each label in it, by each label embedding."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmlocal.apis import cli
from mmlocal.models.label_embedding import METHODS, LabelEmbedding
from mmlocal.registry import MODELS


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', type=cli.existing_file, help='a config of Forward-Forward'
    )
    parser.add_argument(
        '--out', metavar='PNG', required=True, help='write the picture here'
    )
    parser.add_argument(
        '--image',
        type=int,
        default=0,
        metavar='NUMBER',
        help='which image of the test set; 0 by default',
    )
    return parser


def embeddings(cfg: Config, number: int) -> dict[str, Tensor]:
    """An image with each label, by method.

    Args:
        cfg (Config): Its training set has the prototypes, through the
            transforms of its test set, in which the image is.
        number (int): Of the image.

    Returns:
        dict[str, Tensor]: Under '' the image itself (1, channels, H, W);
        then (C, channels, H, W) of each method, with twice the channels of
        2channel ones. Normalized.

    Raises:
        ValueError: If the config has no label embedding.
    """
    model = cfg.get('model') or {}
    if 'embedding' not in model:
        raise ValueError(
            f'{cfg.filename} has no model.embedding: give a config of '
            'configs/forward_forward, as ff_mlp_digits.py.'
        )
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    preprocess = MODELS.build(
        {
            'type': 'mmpretrain.ClsDataPreprocessor',
            **(model.get('data_preprocessor') or cfg.data_preprocessor),
        }
    )
    test, train = (
        deepcopy(cfg[f'{name}_dataloader']) for name in ('test', 'train')
    )
    train.dataset.pipeline = test.dataset.pipeline
    for loader in test, train:
        loader.num_workers, loader.persistent_workers = 0, False
        loader.sampler = {'type': 'DefaultSampler', 'shuffle': False}
    images = Runner.build_dataloader(test).dataset
    if not 0 <= number < len(images):
        raise ValueError(f'--image {number}: there are {len(images)} images.')
    batch = pseudo_collate([images[number]])
    image = preprocess(batch, False)['inputs']
    loader = Runner.build_dataloader(train)
    found = {'': image}
    for method in METHODS:
        embedding = LabelEmbedding(
            method, model.embedding.num_classes, image.shape[1:]
        )
        if embedding.has_prototypes:
            embedding.learn(_batches(loader, preprocess))
        (found[method],) = embedding.trials(image, 10**9)
    return found


def _batches(loader: DataLoader, preprocess):
    for batch in loader:
        data = preprocess(batch, False)
        labels = [sample.gt_label for sample in data['data_samples']]
        yield data['inputs'], torch.cat(labels)


def draw(found: dict[str, Tensor], out: str) -> None:
    """A row a method, a column a label; grey levels from black to white.

    Two channels of images of one stand above one another.
    """
    import matplotlib

    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    image = found['']
    methods = [method for method in found if method]
    labels = len(found[methods[0]])
    tall = [2 if method.endswith('2channel') else 1 for method in methods]
    figure, axes = plt.subplots(
        len(methods),
        labels + 1,
        figsize=(0.62 * (labels + 1) + 1.8, 0.66 * sum(tall) + 0.3),
        gridspec_kw={'height_ratios': tall},
        layout='compressed',
        squeeze=False,
    )
    for row, method in zip(axes, methods, strict=True):
        values = found[method]
        limits = values.min().item(), values.max().item()
        row[0].set_ylabel(
            method.replace('-', '\n', method.count('-')),
            rotation=0,
            ha='right',
            va='center',
            fontsize=8,
        )
        for axis, value in zip(row, [image[0], *values], strict=True):
            parts = value.split(image.shape[1])
            axis.imshow(
                _pixels(parts, limits), interpolation='nearest', cmap='gray'
            )
            axis.set(xticks=[], yticks=[])
    axes[0, 0].set_title('image', fontsize=8)
    for label, axis in enumerate(axes[0, 1:]):
        axis.set_title(str(label), fontsize=8)
    figure.savefig(out, dpi=110, bbox_inches='tight')
    plt.close(figure)


def _pixels(parts: Sequence[Tensor], limits: tuple[float, float]):
    """Images one above the other, (H, W[, 3]) in [0, 1]."""
    low, high = limits
    pixels = torch.cat(list(parts), 1).permute(1, 2, 0)
    pixels = ((pixels - low) / max(high - low, 1e-6)).clamp(0, 1)
    return (pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).numpy()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    with cli.one_line_errors(parser):
        cfg = Config.fromfile(args.config)
        cli.check_data(cfg, cli.LOADERS)
        draw(embeddings(cfg, args.image), args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
