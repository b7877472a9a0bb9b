"""Which configs the installed libraries ship, and how they are made small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from mmlocal.config import type_name

LIBRARIES = ('mmseg', 'mmpretrain')
# A square of this side holds the deepest stages and the pooling pyramids.
SIDE = 128
# Of a family, the config whose name has the first of these is the smallest.
SMALL = (
    'atto|xxs|tiny|-t[_-]|-t14|128s|5m|b0|a0|s0|-050|400mf',
    'xs|small|-s[_-]|s12|s16|r18|18-|resnet18|hr18|w18|stdc1|-l1',
    'r50|resnet50|50|11|121|23-slim',
    'base|-b[_-]|b16',
    '',
)
# Models without a head, with pairs of images, and without a size of images,
# which mmseg does not train.
ODD = ('headless', 'levir', 'upernet_r18_4xb4')


@dataclass(frozen=True)
class StockConfig:
    """A config file of a library.

    Attributes:
        library (str): 'mmseg' or 'mmpretrain'.
        path (str): Below the library's folder of configs.
    """

    library: str
    path: str

    @property
    def family(self) -> str:
        """Its folder."""
        return f'{self.library}/{self.path.split("/")[0]}'

    @property
    def name(self) -> str:
        """As in a table, and on the command line."""
        return f'{self.library}/{self.path}'

    @property
    def file(self) -> Path:
        """On this machine."""
        return folder(self.library) / self.path

    def load(self) -> Config:
        """Read it."""
        return Config.fromfile(self.file)


def folder(library: str) -> Path:
    """Where an installed library keeps its configs.

    Raises:
        FileNotFoundError: If it brings none.
    """
    spec = find_spec(library)
    root = Path(spec.submodule_search_locations[0]) if spec else None
    for name in ('.mim/configs', '../configs'):
        if root is not None and (root / name).is_dir():
            return (root / name).resolve()
    raise FileNotFoundError(f'{library} is not installed with its configs')


def stock_configs() -> Iterator[StockConfig]:
    """All config files of both libraries, by name."""
    for library in LIBRARIES:
        root = folder(library)
        for file in sorted(root.rglob('*.py')):
            path = file.relative_to(root)
            if '_base_' in path.parts or path.name.startswith('_'):
                continue
            if file.is_file() and 'model' in file.read_text():
                yield StockConfig(library, path.as_posix())


def one_a_family(configs: Iterator[StockConfig]) -> list[StockConfig]:
    """The smallest of each family, as far as names tell."""
    families: dict[str, list[StockConfig]] = {}
    for config in configs:
        families.setdefault(config.family, []).append(config)
    return [min(group, key=_size) for group in families.values()]


def shrink(cfg: Config) -> tuple[int, int]:
    """Let a config train on small images; their height and width.

    Where a backbone takes one size alone, it stays.
    """
    model = cfg.model
    side = SIDE
    sizes = [value for key, value in _items(model) if key == 'img_size']
    if sizes:
        size = sizes[0]
        side = size if isinstance(size, int) else size[0]
    resize(cfg, (side, side))
    return (side, side)


def resize(cfg: Config, size: tuple[int, int]) -> None:
    """Let a config train on images of a height and width."""
    for key, value in _items(cfg.model.get('data_preprocessor') or {}):
        if key == 'size' and value is not None:
            cfg.model.data_preprocessor.size = size


def kind_of(cfg: Config) -> str:
    """Type of a config's backbone; of its model, if that has none."""
    model = cfg.model
    backbone = model.get('backbone') or model.get('image_encoder') or {}
    # Retrieval has it in front of a neck.
    backbone = backbone[0] if isinstance(backbone, list) else backbone
    return type_name(backbone.get('type') or model.get('type'))


def _size(config: StockConfig) -> tuple:
    name = config.path.lower()
    size = next(i for i, text in enumerate(SMALL) if re.search(text, name))
    odd = any(text in name for text in ODD)
    return odd, name.count('/'), size, len(name), name


def _items(node) -> Iterator[tuple]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _items(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _items(value)
