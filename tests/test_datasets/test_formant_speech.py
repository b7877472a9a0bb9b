"""Speech that is made, not recorded."""

import numpy as np
import pytest
from scipy.signal import find_peaks

from mmlocal.datasets import FormantSpeech
from mmlocal.datasets.formants import (
    PHONES,
    SAMPLE_RATE,
    Speaker,
    draw_phones,
    synthesize,
)

NAMES = list(PHONES)


def voice(pitch: float = 100, throat: float = 1.0) -> Speaker:
    return Speaker(pitch, np.full(3, throat), tilt=0.9, breath=0.0)


def speak(name: str, speaker: Speaker, frames: int = 40) -> np.ndarray:
    phones = np.full(frames, NAMES.index(name), np.uint8)
    return synthesize(phones, speaker, np.random.default_rng(0))


def spectrum(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz, and loudness in dB, smoothed over 20 of them."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    smooth = np.convolve(power, np.ones(60) / 60, mode='same')
    frequencies = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    return frequencies, 10 * np.log10(smooth + 1e-12)


@pytest.mark.parametrize('throat', [1.0, 1.15])
@pytest.mark.parametrize('name', ['i', 'a', 'u'])
def test_a_vowel_resonates_at_its_second_formant(name, throat):
    frequencies, loudness = spectrum(speak(name, voice(throat=throat)))
    peaks = frequencies[find_peaks(loudness, prominence=2)[0]]
    formant = PHONES[name].formants[1] * throat
    assert np.abs(peaks - formant).min() < 120


@pytest.mark.parametrize('pitch', [100, 200])
def test_pulses_have_the_pitch_of_the_speaker(pitch):
    """The peak of the cepstrum, within 10 %."""
    sound = speak('a', voice(pitch), frames=10)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    cepstrum = np.fft.irfft(np.log(spectrum))[: SAMPLE_RATE // 60]
    shortest = SAMPLE_RATE // 280
    period = shortest + cepstrum[shortest:].argmax()
    assert SAMPLE_RATE / period == pytest.approx(pitch, rel=0.11)


def test_fricatives_are_noise_of_high_frequency():
    def high(name):
        frequencies, loudness = spectrum(speak(name, voice()))
        power = 10 ** (loudness / 10)
        return power[frequencies > 3000].sum() / power.sum()

    assert high('s') > 0.9 and high('a') < 0.1


def test_phones_last_for_60_to_160_ms():
    phones = draw_phones(500, np.random.default_rng(0))
    assert len(phones) == 500 and {*phones} == {*range(len(PHONES))}
    changes = np.flatnonzero(np.diff(phones.astype(int))) + 1
    lengths = np.diff(changes)
    assert lengths.min() >= 6 and lengths.max() <= 16


def test_an_utterance_depends_on_its_arguments_alone():
    """Also not on how many there are; another seed and split are others."""
    options = {'num_speakers': 3, 'num_frames': 20}
    first = FormantSpeech(num_utterances=4, **options)
    again = FormantSpeech(num_utterances=6, **options)
    assert len(first) == 4 and len(again) == 6
    for index in range(4):
        one, other = first[index], again[index]
        assert np.array_equal(one['audio'], other['audio'])
        assert np.array_equal(one['gt_frames'], other['gt_frames'])
        assert one['gt_label'] == index % 3
    assert first[0]['audio'].shape == (3200,)
    assert first[0]['audio'].dtype == np.float32
    for change in {'split': 'val'}, {'seed': 1}:
        other = FormantSpeech(num_utterances=1, **options, **change)[0]
        assert not np.array_equal(first[0]['audio'], other['audio'])
    assert first.metainfo['classes'][2] == 'speaker 2'
    assert first.metainfo['frame_classes'] == tuple(PHONES)


@pytest.mark.parametrize(
    'options',
    [{'split': 'test'}, {'num_utterances': 0}, {'seed': -1}],
)
def test_arguments_out_of_range(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))}='):
        FormantSpeech(**options)
