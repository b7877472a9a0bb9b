"""model-index.yml, the metafiles and the configs tell the same story."""

from pathlib import Path

import pytest
import yaml
from mmengine.hub import get_config
from modelindex.load_model_index import load

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent.name for path in ROOT.glob('configs/*/*.yml'))


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def test_index_imports_every_metafile():
    imported = read(ROOT / 'model-index.yml')['Import']
    written = {path.relative_to(ROOT) for path in ROOT.glob('configs/*/*.yml')}
    assert {Path(path) for path in imported} == written
    assert len(imported) == len(written)


@pytest.mark.parametrize('folder', FOLDERS)
def test_metafile_lists_each_config_once(folder):
    metafile = read(ROOT / 'configs' / folder / 'metafile.yml')
    listed = [model['Config'] for model in metafile['Models']]
    written = (ROOT / 'configs' / folder).glob('*.py')
    assert sorted(listed) == sorted(
        str(path.relative_to(ROOT)) for path in written
    )
    for model in metafile['Models']:
        name = f'{folder}_{Path(model["Config"]).stem}'
        assert model['Name'] == name
        assert model['In Collection'] == metafile['Collections'][0]['Name']


@pytest.mark.parametrize('folder', FOLDERS)
def test_readme_of_the_collection_is_there(folder):
    metafile = read(ROOT / 'configs' / folder / 'metafile.yml')
    (collection,) = metafile['Collections']
    assert (ROOT / collection['README']).is_file()


def test_model_index_is_read_by_openmmlab():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == len(list(ROOT.glob('configs/[!_]*/*.py')))


def test_configs_are_found_by_package_name():
    cfg = get_config('mmlocal::infopro/resnet20_shapes.py')
    assert cfg.model.backbone.type == 'mmlocal.LocalSupervisedBackbone'
