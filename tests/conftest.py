"""Small models and batches that the tests share."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import loops, runner
from mmengine.visualization import Visualizer
from torch import nn
from yapf.yapflib import yapf_api

from mmlocal.registry import MODELS

# A run asks compilers for their versions, git at each checkpoint, and lays its
# config out anew for each log and checkpoint; as it is written, the config
# reads alike.
runner.collect_env = cache(runner.collect_env)
runner.get_git_hash = cache(runner.get_git_hash)
yapf_api.FormatCode = lambda text, **style: (text, False)


# Nothing waits without need: for the end of workers whose loader is garbage,
# and at the end of a data set, of which each is small.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5
loops.time = SimpleNamespace(sleep=lambda seconds: None)


# What runs draw, they draw one after another: on one figure.
new_figure, figures = Visualizer._initialize_fig, {}


def _initialize_fig(self: Visualizer, fig_cfg: dict) -> tuple:
    key = str(fig_cfg)
    if key not in figures:
        figures[key] = new_figure(self, fig_cfg)
    return figures[key]


Visualizer._initialize_fig = _initialize_fig


# Nor is a config of the tree read anew for each that builds on it.
TREE = Path(__file__).parents[1] / 'configs'
read, read_once = Config._file2dict, cache(Config._file2dict)


def _file2dict(filename: str, *args, **kwargs) -> tuple:
    path = Path(filename).absolute()
    if not path.is_relative_to(TREE):
        return read(filename, *args, **kwargs)
    return deepcopy(read_once(str(path), *args, **kwargs))


Config._file2dict = staticmethod(_file2dict)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file runs in one process: what its tests share is built once."""
    from xdist.scheduler import LoadFileScheduling

    # Not in the order of how many tests a file has; see below.
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that none of them is left when
    other processes have nothing to do."""
    weights = Counter()
    for item in items:
        weights[item.path] += 20 if item.get_closest_marker('slow') else 1
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(autouse=True, scope='module')
def _quick_collections():
    """Data sets collect garbage when they are built: not among libraries."""
    BUILT.clear()
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """Libraries count at exit what has not been collected."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def segmentor_cfg(boundaries=(), local_heads=None, **backbone) -> dict:
    """A narrow ResNetV1c-18 with an FCN head, 4 classes."""
    inner = {
        'type': 'ResNetV1c',
        'depth': 18,
        'base_channels': 8,
        'stem_channels': 8,
        'strides': (1, 2, 1, 1),
        'dilations': (1, 1, 2, 4),
        **backbone,
    }
    if local_heads is None:
        local_heads = {
            'type': 'mmlocal.InfoProHead',
            'preset': 'segmentation',
            'num_classes': 4,
        }
    return {
        'type': 'EncoderDecoder',
        '_scope_': 'mmseg',
        'data_preprocessor': {
            'type': 'SegDataPreProcessor',
            'mean': [120.0, 110.0, 100.0],
            'std': [60.0, 55.0, 50.0],
            'bgr_to_rgb': True,
            'size': (32, 32),
        },
        'backbone': {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': inner,
            'boundaries': boundaries,
            'local_heads': local_heads,
        },
        'decode_head': {
            'type': 'FCNHead',
            'in_channels': 64,
            'channels': 8,
            'num_convs': 1,
            'num_classes': 4,
            'dropout_ratio': 0,
        },
    }


def segmentation_batch(size: int = 2, seed: int = 0) -> dict:
    """Raw images and labels, as a data loader hands them out."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(seed)
    images, samples = [], []
    for _ in range(size):
        image = torch.randint(0, 256, (3, 32, 32), generator=generator)
        images.append(image.byte())
        label = torch.randint(0, 4, (1, 32, 32), generator=generator)
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo({'img_shape': (32, 32), 'ori_shape': (32, 32)})
        samples.append(sample)
    return {'inputs': images, 'data_samples': samples}


def classifier_cfg(backbone: dict, channels: int, num_classes=10) -> dict:
    """An mmpretrain classifier over pooled features."""
    return {
        'type': 'ImageClassifier',
        '_scope_': 'mmpretrain',
        'data_preprocessor': {
            'mean': [125.0, 123.0, 114.0],
            'std': [63.0, 62.0, 67.0],
            'num_classes': num_classes,
        },
        'backbone': backbone,
        'neck': {'type': 'GlobalAveragePooling'},
        'head': {
            'type': 'LinearClsHead',
            'num_classes': num_classes,
            'in_channels': channels,
        },
    }


def classification_batch(size=4, side=32, seed=0, num_classes=10) -> dict:
    """Raw images and class labels."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    shape = (size, 3, side, side)
    images = torch.randint(0, 256, shape, generator=generator).byte()
    labels = torch.randint(0, num_classes, (size,), generator=generator)
    samples = [DataSample().set_gt_label(label) for label in labels]
    return {'inputs': images, 'data_samples': samples}


def audio_cfg(boundaries: list, local_heads=None, **options) -> dict:
    """A narrow CPCAudioEncoder of 4 speakers, trained by InfoNCE."""
    if local_heads is None:
        local_heads = {
            'type': 'mmlocal.SequenceInfoNCEHead',
            'target_channels': 8,
            'num_steps': 3,
            'num_negatives': 4,
            'window': 16,
        }
    inner = {
        'type': 'mmlocal.CPCAudioEncoder',
        'channels': 8,
        'context_channels': 6,
        **options,
    }
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': inner,
        'boundaries': boundaries,
        'local_heads': local_heads,
        'local_end': True,
        'input_shape': (1, 3200),
    }
    cfg = classifier_cfg(backbone, 6, num_classes=4)
    return {
        **cfg,
        'data_preprocessor': {'type': 'mmlocal.AudioDataPreprocessor'},
        'neck': {'type': 'GlobalAveragePooling', 'dim': 1},
    }


def audio_batch(size=4, seed=0) -> dict:
    """Waveforms of 20 frames, with classes of them and of frames."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    waves = torch.rand((size, 1, 3200), generator=generator) - 0.5
    samples = []
    for label in torch.randint(0, 4, (size,), generator=generator):
        sample = DataSample().set_gt_label(label)
        frames = torch.randint(0, 5, (20,), generator=generator)
        sample.set_field(frames, 'gt_frames')
        samples.append(sample)
    return {'inputs': list(waves), 'data_samples': samples}


# By config and seed, models of a file and the random state behind them.
BUILT: dict[str, tuple[nn.Module, torch.Tensor]] = {}


def build(cfg: dict, seed: int = 0) -> nn.Module:
    """Build and initialize a model; a copy, where a file had it before."""
    init_default_scope(cfg.get('_scope_', 'mmengine'))
    key = f'{seed} {cfg}'
    if key not in BUILT:
        torch.manual_seed(seed)
        model = MODELS.build(ConfigDict(deepcopy(cfg)))
        model.init_weights()
        model.train()
        BUILT[key] = model, torch.get_rng_state()
    model, random = BUILT[key]
    torch.set_rng_state(random)
    return deepcopy(model)


def grads(model: nn.Module) -> dict[str, torch.Tensor | None]:
    """Gradients by name, copied."""
    return {
        name: None if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


@pytest.fixture(scope='session')
def fresh_python(tmp_path_factory):
    """Runs programs in processes of their own; see fresh_python.py."""
    path = Path(__file__).with_name('fresh_python.py')
    spec = spec_from_file_location('fresh_python', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    python = module.FreshPython(tmp_path_factory.mktemp('python'))
    yield python
    python.close()


@pytest.fixture
def helpers():
    """The functions of this file, for tests."""

    class Helpers:
        segmentor_cfg: Callable = staticmethod(segmentor_cfg)
        segmentation_batch: Callable = staticmethod(segmentation_batch)
        classifier_cfg: Callable = staticmethod(classifier_cfg)
        classification_batch: Callable = staticmethod(classification_batch)
        audio_cfg: Callable = staticmethod(audio_cfg)
        audio_batch: Callable = staticmethod(audio_batch)
        build: Callable = staticmethod(build)
        grads: Callable = staticmethod(grads)

    return Helpers
