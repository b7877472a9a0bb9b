"""model-index.yml, the metafiles and the configs tell the same story."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.hub import get_config
from modelindex.load_model_index import load

from mmlocal.apis.zoo.releases import RELEASES

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


def entries() -> list[dict]:
    paths = ROOT.glob('configs/*/metafile.yml')
    return [model for path in paths for model in read(path)['Models']]


def test_weights_are_those_that_were_released():
    given = {m['Name']: m['Weights'] for m in entries() if 'Weights' in m}
    assert given == {name: f'mmlocal://{name}' for name in RELEASES}
    for model in entries():
        assert ('Converted From' in model) == ('Weights' in model)
        if 'Weights' in model:
            source = model['Converted From']['Weights']
            key = RELEASES[model['Name']].file.ids['Tsinghua Cloud']
            assert source == f'https://cloud.tsinghua.edu.cn/f/{key}/?dl=1'


def test_every_released_file_has_ids_of_its_own():
    ids = [key for r in RELEASES.values() for key in r.file.ids.values()]
    assert len(ids) == len(set(ids)) == 16
    names = {release.file.name for release in RELEASES.values()}
    assert len(names) == 8


def test_results_say_where_they_come_from():
    """Published or measured, and in the folder's README too."""
    text = ''.join(
        path.read_text() for path in ROOT.glob('configs/*/README.md')
    )
    results = [r for model in entries() for r in model.get('Results', [])]
    assert len(results) > 90
    for result in results:
        assert re.match('published: https://|measured: ', result['Source'])
        assert result['Task'] in (
            'Image Classification',
            'Semantic Segmentation',
        )
        for value in result['Metrics'].values():
            shown = f'{value:.2f}'
            short = shown.removesuffix('0')
            assert re.search(rf'\| ({shown}|{short}) |{short} %', text), value
