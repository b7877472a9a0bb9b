"""The weights that the authors of the methods released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .download import RemoteFile, fetch


@dataclass(frozen=True)
class Release:
    """A released checkpoint.

    Args:
        file (RemoteFile): Where it lies.
        task (str): Which code wrote it: ``imagenet`` or ``cityscapes``.
        local (bool): Whether it was trained in modules. Defaults to True.
    """

    file: RemoteFile
    task: Literal['imagenet', 'cityscapes']
    local: bool = True


def _infopro(
    name: str, tsinghua: str, google: str, task: str, local: bool = True
) -> Release:
    ids = {'Tsinghua Cloud': tsinghua, 'Google Drive': google}
    return Release(RemoteFile(f'{name}.pth', ids), task, local)


# Of InfoPro (https://github.com/blackfeather-wang/InfoPro-Pytorch), by the
# name in the model zoo. Neither sizes nor hashes are published.
RELEASES = {
    'infopro_resnet101_imagenet': _infopro(
        'infopro_resnet101_imagenet',
        '8dde90d313fa4d638b2d',
        '175qnppNdBma8erNT_g8J0b2dxUaJaqpx',
        'imagenet',
    ),
    'infopro_resnet152_imagenet': _infopro(
        'infopro_resnet152_imagenet',
        '6be22414da83485eb0f5',
        '1dgU-sjx7vsNvjVbpmQeXJmx1DA0IBpb7',
        'imagenet',
    ),
    'infopro_resnext101-32x8d_imagenet': _infopro(
        'infopro_resnext101-32x8d_imagenet',
        '090b0e56b7164d80b1af',
        '1aYwU-t3zlol_ubPIkDN4PZa0Qt8FXaXW',
        'imagenet',
    ),
    'e2e_deeplabv3_r101_cityscapes': _infopro(
        'e2e_deeplabv3_r101_cityscapes',
        '3d8ecee6d6d949c395f7',
        '1_xz1uzzx4bgxcv-HOLglxKSLRoLIc7OK',
        'cityscapes',
        local=False,
    ),
    'e2e_deeplabv3_r101_cityscapes_60k': _infopro(
        'e2e_deeplabv3_r101_cityscapes_60k',
        '77fef599522d47d7b6bb',
        '1MRkF9EfmO_PowHquJM07_Ws_TQLbSVWw',
        'cityscapes',
        local=False,
    ),
    'infopro_deeplabv3_r101_cityscapes': _infopro(
        'infopro_deeplabv3_r101_cityscapes',
        '2d743fd5e93d4e85ad6d',
        '14MvWcEYbOxtCxkoP_BRrVo2MZjDeWyCm',
        'cityscapes',
    ),
    'infopro_deeplabv3_r101_cityscapes_bs12': _infopro(
        'infopro_deeplabv3_r101_cityscapes_bs12',
        'bd083bc41c614150af86',
        '1WGb9HgUzlMoHsNPxp-J47lv8Bj2Amojk',
        'cityscapes',
    ),
    'infopro_deeplabv3_r101_cityscapes-640x1280': _infopro(
        'infopro_deeplabv3_r101_cityscapes-640x1280',
        '70553a08b7f84a9dbac1',
        '1ePGmVqOHeGJG7TWjqcqGNVwkhCf-LFG4',
        'cityscapes',
    ),
}


def download(name: str, **kwargs: Any) -> Path:
    """Download a released file.

    Args:
        name (str): A key of :data:`RELEASES`.
        **kwargs: Of :func:`mmlocal.apis.zoo.download.fetch`.

    Raises:
        DownloadError: If it cannot be had.
    """
    return fetch(RELEASES[name].file, **kwargs)


def load_release(
    name: str, local_heads: bool | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Download a released checkpoint and convert its keys.

    Args:
        name (str): A key of :data:`RELEASES`.
        local_heads (bool, optional): Whether to keep the auxiliary nets. By
            default those that were trained are kept.
        **kwargs: Of :func:`mmlocal.apis.zoo.download.fetch`.

    Returns:
        dict: ``state_dict`` and ``meta``, as mmengine has them.
    """
    from .checkpoints import load_checkpoint
    from .converters import convert_cityscapes, convert_imagenet

    release = RELEASES[name]
    converters = {
        'imagenet': convert_imagenet,
        'cityscapes': convert_cityscapes,
    }
    checkpoint = load_checkpoint(download(name, **kwargs))
    keep = release.local if local_heads is None else local_heads
    result = converters[release.task](checkpoint, keep)
    return {'state_dict': result.state_dict, 'meta': result.meta}


def load_from_zoo(
    filename: str, map_location: Any = None
) -> Mapping[str, Any]:
    """What mmengine calls for ``mmlocal://<name>``.

    Raises:
        ValueError: If nothing was released under this name.
    """
    name = filename.removeprefix('mmlocal://')
    if name not in RELEASES:
        raise ValueError(no_weights(name))
    return load_release(name)


def no_weights(name: str) -> str:
    """What to tell who asks for weights that do not exist."""
    return (
        f'there are no published weights for {name!r}. There are for:\n  '
        + '\n  '.join(RELEASES)
        + '\nFor others, train the config and give the path of the '
        "checkpoint (pretrained='FILE')."
    )
