"""Evaluate a checkpoint, of mmseg or of mmpretrain."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from copy import deepcopy

from mmengine.config import Config, ConfigDict

from mmlocal.apis import cli
from mmlocal.config import type_name


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', type=cli.existing_file, help='that of the training'
    )
    parser.add_argument(
        'checkpoint', type=cli.checkpoint_file, help='the weights'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: tta_model and tta_pipeline of the '
        'config; by default, for classification, both flips',
    )
    parser.add_argument(
        '--out',
        metavar='PATH',
        help='write predictions: label maps as PNG into this folder '
        '(segmentation), or everything into this .pkl file',
    )
    parser.add_argument(
        '--show-dir',
        metavar='FOLDER',
        help='draw predictions into this folder',
    )
    cli.add_arguments(parser)
    return parser


def make_config(args: Namespace) -> Config:
    """The config with the options of the command line in it."""
    cfg = cli.load_config(args)
    cfg.load_from = args.checkpoint
    if args.tta:
        use_tta(cfg)
    if args.out is not None:
        write_predictions(cfg, args.out)
    if args.show_dir is not None:
        draw_predictions(cfg, args.show_dir)
    cli.check_data(cfg, cli.LOADERS[2:])
    return cfg


def use_tta(cfg: Config) -> None:
    """Average the predictions of several views of an image.

    Raises:
        ValueError: If the config does not say how.
    """
    if cfg.default_scope == 'mmpretrain':
        cfg.setdefault('tta_model', dict(type='AverageClsScoreTTA'))
        cfg.setdefault('tta_pipeline', _flips(cfg))
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise ValueError(
            '--tta: the config has no tta_model and tta_pipeline; see '
            'configs/_base_/default_runtime_seg.py for an example.'
        )
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    scope = {'_scope_': cfg.default_scope}
    cfg.model = ConfigDict(scope | cfg.tta_model | {'module': cfg.model})


def write_predictions(cfg: Config, out: str) -> None:
    """Keep the predictions.

    Args:
        cfg (Config): The config.
        out (str): Path of a ``.pkl`` file, or of a folder for label maps.

    Raises:
        ValueError: If the task has no label maps.
    """
    metrics = cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list) else [metrics]
    if out.endswith(('.pkl', '.pickle')):
        metrics = [*metrics, dict(type='DumpResults', out_file_path=out)]
    elif cfg.default_scope == 'mmseg':
        for metric in metrics:
            if type_name(metric.type) == 'IoUMetric':
                metric.update(output_dir=out, keep_results=True)
    else:
        raise ValueError(
            f'--out {out}: write a name that ends in .pkl; a folder is for '
            'label maps of a segmentation.'
        )
    cfg.test_evaluator = metrics


def draw_predictions(cfg: Config, folder: str) -> None:
    """Draw every image with what is predicted of it.

    Raises:
        ValueError: If the config has no hook that draws, or it cannot.
    """
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError(
            '--show-dir: the config has no default_hooks.visualization; '
            "write dict(type='SegVisualizationHook') for mmseg, "
            "dict(type='VisualizationHook') for mmpretrain."
        )
    if cfg.default_scope == 'mmseg':
        hook.update(draw=True)
        cfg.visualizer.save_dir = folder
    elif 'TTA' in type_name(cfg.model.type):
        raise ValueError(
            '--show-dir: mmpretrain draws one view of an image only; leave '
            'out --tta.'
        )
    else:
        hook.update(enable=True, interval=1, out_dir=folder)


def _flips(cfg: Config) -> list[dict]:
    *pipeline, pack = deepcopy(cfg.test_dataloader.dataset.pipeline)
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    views = dict(type='TestTimeAug', transforms=[flips, [pack]])
    return [*pipeline, views]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    cfg = cli.parse_config(make_parser(), make_config, argv)
    cli.build_runner(cfg).test()
    cli.leave_ranks()


if __name__ == '__main__':
    main()
