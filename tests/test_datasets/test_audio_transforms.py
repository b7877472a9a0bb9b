"""Waveforms are read, cropped with their labels, and packed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile

from mmlocal.datasets import CropAudio, LoadAudio, PackAudio


def ramp(frames: int, labels: int | None = None) -> dict:
    """Samples that count, and frames that are labelled by their number."""
    results = {'audio': np.arange(frames * 160 + 30, dtype=np.float32)}
    results['gt_frames'] = np.arange(frames if labels is None else labels)
    return results


def test_a_random_piece_begins_at_ten_ms_but_not_at_the_first():
    crop, begins = CropAudio(length=320), set()
    for _ in range(60):
        results = crop(ramp(6))
        begin = results['audio'][0]
        assert np.array_equal(results['audio'], begin + np.arange(320))
        assert begin % 160 == 0
        first = begin // 160
        assert results['gt_frames'].tolist() == [first, first + 1]
        begins.add(int(first))
    assert begins == {1, 2, 3, 4}


@pytest.mark.parametrize(('place', 'first'), [('center', 2), ('start', 0)])
def test_a_fixed_piece(place, first):
    results = CropAudio(length=320, place=place)(ramp(6))
    assert results['audio'][0] == first * 160
    assert results['gt_frames'].tolist() == [first, first + 1]


@pytest.mark.parametrize('place', ['random', 'center', 'start'])
def test_what_is_too_short_is_filled_up(place):
    results = CropAudio(length=800, place=place)(ramp(3))
    assert results['audio'].shape == (800,)
    assert not results['audio'][510:].any() and results['audio'][509] == 509
    assert results['gt_frames'].tolist() == [0, 1, 2, 255, 255]


@pytest.mark.parametrize(
    ('align', 'labels', 'expected'),
    [
        ('start', 4, [0, 1, 2, 3, 255, 255]),
        ('end', 4, [255, 255, 0, 1, 2, 3]),
        ('start', 8, [0, 1, 2, 3, 4, 5]),
        ('end', 8, [2, 3, 4, 5, 6, 7]),
    ],
)
def test_labels_of_another_number(align, labels, expected):
    crop = CropAudio(length=960, place='start', align=align)
    assert crop(ramp(6, labels))['gt_frames'].tolist() == expected


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'length': 1000}, 'length=1000: write a multiple of 160'),
        ({'place': 'end'}, "place='end' is unknown"),
        ({'align': 'middle'}, "align='middle' is unknown"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        CropAudio(**options)


def test_packed():
    results = CropAudio(place='start', length=320)(ramp(4))
    results |= {'gt_label': 3, 'audio_path': 'a.flac', 'sample_idx': 7}
    packed = PackAudio()(results)
    sample = packed['data_samples']
    assert packed['inputs'].shape == (1, 320)
    assert sample.gt_label.tolist() == [3]
    assert sample.gt_frames.tolist() == [0, 1]
    assert (sample.audio_path, sample.sample_idx) == ('a.flac', 7)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / 'audio.wav'
    path.write_text('no audio')
    load = LoadAudio()
    with pytest.raises(ValueError, match='audio.wav is no audio file'):
        load({'audio_path': str(path)})
    soundfile.write(path, np.zeros((9, 2)), 8000)
    with pytest.raises(ValueError, match='2 channels at 8000 Hz'):
        load({'audio_path': str(path)})
    monkeypatch.setitem(sys.modules, 'soundfile', None)
    with pytest.raises(ImportError, match=r'pip install mmlocal\[audio\]'):
        load({'audio_path': str(path)})
