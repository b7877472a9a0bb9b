"""Models by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.fileio import load

from mmlocal.config import innermost_dataset, plain_model

from .releases import RELEASES, load_release, no_weights

if TYPE_CHECKING:
    import torch
    from mmengine.model import BaseModel

# Files in a wheel, links into the checkout in an editable install.
FOLDER = Path(__file__).parents[2] / '.mim'


@cache
def model_index() -> dict[str, dict[str, Any]]:
    """The entries of all metafiles by the name of the model."""
    index = load(FOLDER / 'model-index.yml')
    metafiles = (load(FOLDER / path) for path in index['Import'])
    return {
        model['Name']: model
        for metafile in metafiles
        for model in metafile['Models']
    }


def list_models(
    pattern: str = '*', pretrained: bool | None = None
) -> list[str]:
    """Names of models.

    Args:
        pattern (str): A wildcard pattern for the whole name, as
            ``infopro_*imagenet``. Defaults to '*'.
        pretrained (bool, optional): Only those with (True) or without
            (False) published weights.

    Example:
        >>> import mmlocal
        >>> mmlocal.list_models('infopro_resn*_imagenet', pretrained=True)
        ['infopro_resnet101_imagenet', 'infopro_resnet152_imagenet',
         'infopro_resnext101-32x8d_imagenet']
    """
    return sorted(
        name
        for name in model_index()
        if fnmatch(name, pattern)
        and (pretrained is None or pretrained == (name in RELEASES))
    )


def get_config(name: str | Path | Config) -> Config:
    """The config of a model.

    Args:
        name (str | Path | Config): A name of :func:`list_models`, the path
            of a config file, or a config (which is copied).

    Raises:
        ValueError: If there is no such model; names some that are similar.
    """
    if isinstance(name, Config):
        return Config(name.to_dict())
    if str(name).endswith('.py'):
        if not Path(name).is_file():
            raise ValueError(f'there is no config {name}')
        return Config.fromfile(name)
    entry = model_index().get(str(name))
    if entry is None:
        close = get_close_matches(str(name), model_index(), n=4, cutoff=0.5)
        hint = f' Did you mean {" or ".join(close)}?' if close else ''
        raise ValueError(
            f'there is no model {str(name)!r}.{hint} mmlocal.list_models() '
            'has all names; a config file is given by its path (*.py).'
        )
    return Config.fromfile(FOLDER / entry['Config'])


def get_model(
    name: str | Path | Config,
    pretrained: bool | str | Path = True,
    device: str | torch.device | None = None,
    local_heads: bool = False,
    **download: Any,
) -> BaseModel:
    """Build a model and load its weights.

    It is an ordinary model of mmseg or mmpretrain, in eval mode, and their
    ``inference_model`` and ``ImageClassificationInferencer`` take it.

    Args:
        name (str | Path | Config): See :func:`get_config`.
        pretrained (bool | str | Path): Whether to load the published
            weights (downloaded at the first time, and converted), or the
            path of a checkpoint. Defaults to True.
        device (str | torch.device, optional): By default the accelerator
            that mmengine finds, else the CPU.
        local_heads (bool): Keep the modules and their local heads, to train
            on or to look at. By default the model is the plain one.
        **download: Of :func:`mmlocal.apis.zoo.download.fetch`.

    Raises:
        DownloadError: If the weights cannot be had.
        ValueError: If there is no such model, there are no published
            weights, or weights and model do not fit to the last key.

    Example:
        >>> import mmlocal
        >>> model = mmlocal.get_model('infopro_resnet101_imagenet')
    """
    from mmengine.device import get_device
    from mmengine.model import revert_sync_batchnorm

    cfg = get_config(name)
    checkpoint, source = None, name
    if pretrained is True:
        if str(name) not in RELEASES:
            raise ValueError(no_weights(str(name)))
        checkpoint = load_release(str(name), local_heads, **download)
    elif pretrained:
        from .checkpoints import load_checkpoint

        checkpoint, source = load_checkpoint(pretrained), pretrained
    model = build_model(cfg, local_heads)
    meta: Mapping[str, Any] = {}
    if checkpoint is not None:
        _load(model, checkpoint, source, local_heads)
        meta = checkpoint.get('meta') or {}
    # Where mmseg and mmpretrain look for them.
    model.cfg = model._config = cfg
    model.dataset_meta = model._dataset_meta = meta.get(
        'dataset_meta'
    ) or dataset_meta(cfg)
    model._metainfo = _metainfo(name, cfg)
    model._is_init = checkpoint is not None  # else a Runner starts anew
    model = revert_sync_batchnorm(model).to(device or get_device())
    return model.eval()


def build_model(cfg: Config, local_heads: bool = False) -> BaseModel:
    """Build the model of a config, without pretrained weights.

    Args:
        cfg (Config): Of mmseg or mmpretrain. Its ``model`` is changed to
            what is built.
        local_heads (bool): Whether to keep them. Defaults to False.
    """
    from mmengine.registry import MODELS, DefaultScope

    from mmlocal.utils import quiet_imports

    if not local_heads:
        cfg.model = plain_model(cfg.model)
    cfg.model.pop('pretrained', None)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    scope = cfg.get('default_scope', 'mmengine')
    with quiet_imports(), DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg.model)


def dataset_meta(cfg: Config) -> dict[str, Any]:
    """Names of the classes, and colors, of a config's test data.

    Returns:
        dict: ``classes`` and ``palette`` as far as they are known.
    """
    from mmengine.registry import DATASETS, DefaultScope

    from mmlocal.utils import quiet_imports

    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    dataset = innermost_dataset(dataset)
    meta = dict(dataset.get('metainfo') or {})
    scope = cfg.get('default_scope', 'mmengine')
    kind = dataset.get('type')
    if isinstance(kind, str):
        with (
            quiet_imports(),
            DefaultScope.overwrite_default_scope(scope),
            DATASETS.switch_scope_and_registry(None) as registry,
        ):
            kind = registry.get(kind)
    return {**getattr(kind, 'METAINFO', {}), **meta}


def _metainfo(name: str | Path | Config, cfg: Config) -> Any:
    """The task, by which ``mmpretrain.inference_model`` chooses."""
    if cfg.get('default_scope') != 'mmpretrain':
        return None
    from modelindex.models.Model import Model
    from modelindex.models.Result import Result

    task = Result('Image Classification', dataset='', metrics={})
    title = name if isinstance(name, str) else type(name).__name__
    return Model(title, results=[task])


def _load(
    model: BaseModel,
    checkpoint: Mapping[str, Any],
    source: Any,
    local_heads: bool,
) -> None:
    from .checkpoints import weights_of, without_local_heads

    weights = weights_of(checkpoint)
    if not local_heads:
        weights = without_local_heads(weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f'the weights of {source} do not fit the model: {error}'
        ) from error
