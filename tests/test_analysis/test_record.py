"""Measured values in a file."""

import json

import pytest

from mmlocal.analysis import CKA, NHSICPlane
from mmlocal.analysis.record import MeasureFile

PLACE = {'checkpoint': 'epoch_1.pth', 'epoch': 1, 'iter': 10, 'file': [1, 2]}
MODULES = ['module 1', 'module 2']


@pytest.fixture
def file(tmp_path):
    file = MeasureFile(tmp_path / 'folder' / 'measures.json')
    values = {'nhsic': {'x': [1.0, float('nan')]}}
    file.add(PLACE, MODULES, [NHSICPlane()], values)
    return file


def names(file, place, measures, modules=MODULES):
    return [each.name for each in file.missing(place, modules, measures)]


def test_what_was_measured_is_not_missing(file):
    again = MeasureFile(file.path)
    assert names(again, PLACE, [NHSICPlane(), CKA()]) == ['cka']


@pytest.mark.parametrize(
    'change', [{'checkpoint': 'epoch_2.pth'}, {'file': [1, 3]}]
)
def test_other_weights_are_missing(file, change):
    assert names(file, {**PLACE, **change}, [NHSICPlane()]) == ['nhsic']


def test_other_settings_and_other_modules_are_missing(file):
    assert names(file, PLACE, [NHSICPlane(m=64)]) == ['nhsic']
    assert names(file, PLACE, [NHSICPlane()], ['layer1']) == ['nhsic']


def test_the_file_is_json_without_nan(file):
    content = json.loads(
        file.path.read_text(), parse_constant=lambda name: 1 / 0
    )
    (entry,) = content['entries']
    assert entry['measures'] == {'nhsic': {'x': [1.0, None]}}
    assert entry['modules'] == MODULES


def test_measures_of_a_checkpoint_come_together(file):
    file.add(PLACE, MODULES, [CKA()], {'cka': {'modules': [[1.0]]}})
    (entry,) = MeasureFile(file.path).entries
    assert set(entry['measures']) == {'nhsic', 'cka'}


def test_a_checkpoint_written_anew_replaces_its_entry(file):
    new = {**PLACE, 'file': [5, 6]}
    file.add(new, MODULES, [CKA()], {'cka': {'modules': [[1.0]]}})
    (entry,) = file.entries
    assert set(entry['measures']) == {'cka'}


def test_a_checkpoint_of_another_network_is_another_one(file):
    other = {**PLACE, 'label': 'end to end'}
    assert names(file, other, [NHSICPlane()]) == ['nhsic']
    file.add(other, MODULES, [CKA()], {'cka': {'modules': [[1.0]]}})
    assert [entry.get('label') for entry in file.entries] == [
        None,
        'end to end',
    ]


def test_entries_are_in_order_of_training(file):
    first = {'checkpoint': 'initial', 'epoch': 0, 'iter': 0}
    file.add(first, MODULES, [CKA()], {'cka': {'modules': [[1.0]]}})
    assert [entry['iter'] for entry in file.entries] == [0, 10]


@pytest.mark.parametrize('text', ['', '[]', '{"version": 7}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / 'other.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='is no file of measured values'):
        MeasureFile(path)
    assert path.read_text() == text
