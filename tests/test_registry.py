"""``type='mmlocal.X'`` in a config needs no import by the user."""

from pathlib import Path

import pytest

from mmlocal import registry

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('MODELS', 'LocalSupervisedBackbone'),
        ('MODELS', 'CTCHead'),
        ('MODEL_WRAPPERS', 'LocalDistributedDataParallel'),
        ('MODEL_WRAPPERS', 'LocalFSDP'),
        ('HOOKS', 'LocalLossHook'),
        ('LOOPS', 'LocalValLoop'),
        ('METRICS', 'PerModuleIoU'),
        ('OPTIM_WRAPPERS', 'LocalAmpOptimWrapper'),
        ('PARAM_SCHEDULERS', 'WarmupCosineLR'),
        ('DATASETS', 'ShapesSeg'),
        ('PARTITIONS', 'EqualDepth'),
    ],
)
def test_types_are_found_from_the_parent(name, kind):
    import mmengine.registry

    found = getattr(registry, name).get(kind)
    assert found.__name__ == kind
    parent = getattr(mmengine.registry, name, None)
    if parent is not None:  # mmengine knows of no partitions
        assert parent.get(f'mmlocal.{kind}') is found


@pytest.mark.slow
def test_a_name_in_a_config_is_enough(fresh_python):
    """In a fresh process, with mmengine's registries alone.

    A training of mmseg does not wait for mmpretrain.
    """
    script = (
        'import sys\n'
        'from mmengine.registry import HOOKS, MODELS\n'
        "print(HOOKS.get('mmlocal.LocalLossHook').__module__)\n"
        "for name in 'LocalSupervisedBackbone', 'CTCClassifier':\n"
        "    assert MODELS.get(f'mmlocal.{name}')\n"
        "    print('mmpretrain' in sys.modules)"
    )
    result = fresh_python.run('-c', script, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    *_, hook, before, behind = result.stdout.split()
    assert hook.startswith('mmlocal.engine.hooks')
    assert (before, behind) == ('False', 'True')


def test_what_mmseg_has_is_found_under_our_scope():
    import mmseg.datasets  # noqa: F401

    for kind, name in (
        ('TRANSFORMS', 'PackSegInputs'),
        ('VISUALIZERS', 'SegLocalVisualizer'),
        ('VISBACKENDS', 'LocalVisBackend'),
    ):
        assert getattr(registry, kind).get(name).__name__ == name
