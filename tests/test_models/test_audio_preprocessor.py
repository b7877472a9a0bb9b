"""Waveforms are stacked and standardized."""

import pytest
import torch

from mmlocal.models.audio_preprocessor import AudioDataPreprocessor


def test_each_waveform_by_itself():
    waves = [torch.randn(1, 400) * scale + 3 for scale in (0.1, 5)]
    found = AudioDataPreprocessor()({'inputs': waves})['inputs']
    assert found.shape == (2, 1, 400)
    torch.testing.assert_close(found.mean(2), torch.zeros(2, 1))
    torch.testing.assert_close(
        found.std(2, correction=0), torch.ones(2, 1), atol=1e-4, rtol=0
    )


def test_silence_stays_silent():
    found = AudioDataPreprocessor()({'inputs': torch.full((1, 1, 9), 0.5)})
    assert not found['inputs'].any()


def test_published_constants_are_of_samples_of_32_bits():
    process = AudioDataPreprocessor(
        mean=-1456218.75 / 2**31, std=135303504.0 / 2**31
    )
    wave = torch.rand(1, 1, 100, dtype=torch.double) - 0.5
    found = process({'inputs': wave})['inputs']
    published = (wave * 2**31 - -1456218.75) / 135303504.0
    torch.testing.assert_close(found, published.float())


def test_annotations_go_through():
    data = {'inputs': torch.rand(1, 1, 9), 'data_samples': ['sample']}
    assert AudioDataPreprocessor()(data)['data_samples'] == ['sample']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'mean': 0.0}, 'write both'),
        ({'batch_augments': {'augments': []}}, 'batch_augments.*remove'),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        AudioDataPreprocessor(**options)


def test_waveforms_of_different_lengths():
    waves = [torch.zeros(1, 8), torch.zeros(1, 9)]
    with pytest.raises(ValueError, match=r'\[8, 9\] samples.*CropAudio'):
        AudioDataPreprocessor()({'inputs': waves})
