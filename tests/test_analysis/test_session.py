"""Several measures of one model."""

import pytest

from mmlocal.analysis import (
    CKA,
    EffectiveRank,
    Features,
    build_measures,
    measure_modules,
)


class Counting:
    """Stands for an extractor."""

    def __init__(self, values):
        self.values = values
        self.readings = []

    def read(self, reading):
        self.readings.append(reading)
        return Features(['module 1'], [self.values])


@pytest.fixture
def values():
    import numpy as np

    return np.random.default_rng(0).normal(size=(20, 4)).astype('f')


def test_each_measure_gets_what_it_reads(values):
    extractor = Counting(values)
    found = measure_modules([CKA(20), EffectiveRank(10)], extractor)
    assert set(found) == {'cka', 'rank'}
    assert [each.num_images for each in extractor.readings] == [20, 10]


def test_the_reference_is_read_alike(values):
    extractor, reference = Counting(values), Counting(2 * values)
    found = measure_modules([CKA(20)], extractor, reference)
    assert found['cka']['reference'][0] == pytest.approx([1])
    assert reference.readings == extractor.readings


def test_unknown_measures_are_listed():
    with pytest.raises(ValueError, match="no 'Nope'; there are.*'CKA'"):
        build_measures([{'type': 'Nope'}])


def test_a_measure_is_asked_for_once():
    with pytest.raises(ValueError, match="'cka' is there twice"):
        build_measures([{'type': 'CKA'}, {'type': 'mmlocal.CKA'}])
