"""LibriSpeech, by the lists of CPC, on files of a moment."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from mmlocal.datasets import LibriSpeech

NAMES = ['103-1240-0000', '1034-121119-0001', '83-11691-0002']
PIPELINE = [
    dict(type='mmlocal.LoadAudio'),
    dict(type='mmlocal.CropAudio', length=3200, place='start'),
    dict(type='mmlocal.PackAudio'),
]


def waveform(index: int) -> np.ndarray:
    return np.sin(np.arange(4000) * (index + 1) / 50) / 2


@pytest.fixture
def root(tmp_path):
    for index, name in enumerate(NAMES):
        speaker, chapter, _ = name.split('-')
        folder = tmp_path / 'train-clean-100' / speaker / chapter
        folder.mkdir(parents=True)
        soundfile.write(folder / f'{name}.flac', waveform(index), 16000)
    (tmp_path / 'train_split.txt').write_text('\n'.join(NAMES[:2]) + '\n')
    (tmp_path / 'test_split.txt').write_text(NAMES[2])
    lines = [f'{name} 0 40 {i} 7' for i, name in enumerate(NAMES)]
    (tmp_path / 'converted_aligned_phones.txt').write_text('\n'.join(lines))
    return tmp_path


def test_waveforms_speakers_and_phones(root):
    dataset = LibriSpeech(str(root), 'train_split.txt', pipeline=PIPELINE)
    assert len(dataset) == 2
    # In the order of their numbers, over both lists.
    assert dataset.metainfo['classes'] == ('83', '103', '1034')
    for index, item in enumerate(dataset):
        sample = item['data_samples']
        assert sample.gt_label.item() == index + 1
        assert sample.gt_frames[:5].tolist() == [0, 40, index, 7, 255]
        expected = torch.from_numpy(waveform(index)[:3200]).float()
        torch.testing.assert_close(
            item['inputs'][0], expected, atol=1e-4, rtol=0
        )
    (item,) = LibriSpeech(str(root), 'test_split.txt', pipeline=PIPELINE)
    assert item['data_samples'].gt_label.item() == 0


def test_without_phones(root):
    (root / 'converted_aligned_phones.txt').unlink()
    dataset = LibriSpeech(
        str(root), 'test_split.txt', phones_file=None, pipeline=PIPELINE
    )
    assert 'gt_frames' not in dataset[0]['data_samples']


@pytest.mark.parametrize(
    'name', ['train_split.txt', 'converted_aligned_phones.txt']
)
def test_a_missing_list(root, name):
    (root / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        LibriSpeech(str(root), 'train_split.txt')
    message = str(error.value)
    assert f'{name} is missing' in message and 'openslr.org' in message


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'train_split.txt lists no utterance'),
        ('103-1240-0009', r'1 of 1 utterances .* have no line in'),
        ('apple-1-2', "'apple-1-2' is no utterance"),
    ],
)
def test_a_wrong_list(root, text, message):
    (root / 'train_split.txt').write_text(text)
    with pytest.raises(ValueError, match=message):
        LibriSpeech(str(root), 'train_split.txt')
