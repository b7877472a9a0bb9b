"""What an installation brings."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import mmengine.config.utils

import mmlocal

ROOT = Path(__file__).parents[1]


def test_mim_links_lead_into_the_checkout():
    mim = ROOT / 'mmlocal' / '.mim'
    for name in 'configs', 'tools', 'model-index.yml':
        assert (mim / name).is_symlink()
        assert (mim / name).resolve() == ROOT / name
        assert not (mim / name).readlink().is_absolute()


def test_wheel_brings_configs_and_tools(tmp_path):
    script = (
        'import setuptools.build_meta as build; '
        f'print(build.build_wheel({str(tmp_path)!r}))'
    )
    command = [sys.executable, '-c', script]
    # In a copy: setuptools writes build/ and *.egg-info beside setup.py.
    source = tmp_path / 'source'
    _copy_sources(source)
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob('*.whl')
    assert wheel.name.startswith(f'mmlocal-{mmlocal.__version__}-')
    names = set(ZipFile(wheel).namelist())
    for path in ROOT.glob('configs/**/*.py'):
        assert f'mmlocal/.mim/{path.relative_to(ROOT)}' in names
    assert 'mmlocal/.mim/tools/train.py' in names
    assert 'mmlocal/.mim/tools/dist_train.sh' in names
    assert 'mmlocal/.mim/model-index.yml' in names
    assert 'mmlocal/.mim/configs/infopro/metafile.yml' in names
    assert 'mmlocal/models/backbones/local_supervised.py' in names
    for kind in 'html', 'css', 'js':
        assert f'mmlocal/analysis/page/page.{kind}' in names
    assert not any('__pycache__' in name for name in names)


def test_import_brings_no_other_library():
    loaded = (
        "import sys, mmlocal; print({'mmseg', 'mmpretrain', 'mmcv', 'torch'} "
        '& {*sys.modules})'
    )
    plain = subprocess.run(
        [sys.executable, '-c', loaded],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    # mmengine imports torch by itself in some versions.
    assert plain.stdout.strip() in ('set()', "{'torch'}")


def test_bases_of_other_libraries_are_found(tmp_path):
    assert mmengine.config.utils.MODULE2PACKAGE['mmlocal'] == 'mmlocal'
    config = tmp_path / 'mine.py'
    config.write_text(
        "_base_ = 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'\n"
    )
    cfg = mmengine.config.Config.fromfile(config)
    assert cfg.model.type == 'EncoderDecoder'


def _copy_sources(target: Path) -> None:
    target.mkdir()
    for name in (
        'setup.py',
        'pyproject.toml',
        'MANIFEST.in',
        'README.md',
        'LICENSE',
        'model-index.yml',
    ):
        shutil.copy(ROOT / name, target)
    ignore = shutil.ignore_patterns('__pycache__')
    for name in 'mmlocal', 'configs', 'tools', 'requirements':
        shutil.copytree(
            ROOT / name, target / name, symlinks=True, ignore=ignore
        )
