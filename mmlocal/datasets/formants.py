"""Speech by formants: buzz and noise through the resonances of a throat.

As in Klatt's synthesizer (https://doi.org/10.1121/1.383940), much shortened:
a train of pulses with the speaker's pitch and white noise, mixed as the phone
asks for, pass three resonators in a row. Their frequencies glide from phone
to phone, and are those of the phone times what the speaker's throat does to
them. It does not sound like anyone, but phones and speakers differ in what
they differ in, in people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from mmlocal.models.frames import FRAME

SAMPLE_RATE = 16_000


class Phone(NamedTuple):
    """How a phone is made.

    Attributes:
        voice (float): Loudness of the pulses.
        noise (float): Loudness of the noise.
        formants (tuple[float, float, float]): Resonances in Hz.
    """

    voice: float
    noise: float
    formants: tuple[float, float, float]


PHONES = {
    'sil': Phone(0.0, 0.002, (500, 1500, 2500)),
    'i': Phone(1.0, 0.01, (270, 2290, 3010)),
    'e': Phone(1.0, 0.01, (530, 1840, 2480)),
    'a': Phone(1.0, 0.01, (730, 1090, 2440)),
    'o': Phone(1.0, 0.01, (570, 840, 2410)),
    'u': Phone(1.0, 0.01, (300, 870, 2240)),
    'm': Phone(0.4, 0.01, (250, 1100, 2100)),
    'n': Phone(0.4, 0.01, (250, 1600, 2600)),
    'l': Phone(0.6, 0.01, (360, 1300, 2900)),
    'r': Phone(0.6, 0.01, (310, 1060, 1380)),
    's': Phone(0.0, 0.15, (2600, 5200, 6800)),
    'sh': Phone(0.0, 0.15, (1800, 2600, 4500)),
    'f': Phone(0.0, 0.08, (1400, 3800, 7000)),
    'z': Phone(0.4, 0.1, (2600, 5200, 6800)),
}
# Samples that a sound rings on for, at most.
WINDOW = 5 * FRAME
# Hz at half power.
BANDWIDTHS = (80.0, 110.0, 160.0)


@dataclass(frozen=True)
class Speaker:
    """A voice.

    Args:
        pitch (float): In Hz.
        throat (np.ndarray): Factors on the three formants; longer throats
            have lower ones.
        tilt (float): How fast the pulses fade with frequency, in (0, 1).
        breath (float): Noise in what is voiced.
    """

    pitch: float
    throat: np.ndarray
    tilt: float
    breath: float

    @classmethod
    def draw(cls, rng: Generator) -> Speaker:
        """A random voice."""
        return cls(
            pitch=rng.uniform(90, 240),
            throat=rng.uniform(0.85, 1.15) * rng.uniform(0.96, 1.04, 3),
            tilt=rng.uniform(0.85, 0.97),
            breath=rng.uniform(0.0, 0.05),
        )


def draw_phones(num_frames: int, rng: Generator) -> np.ndarray:
    """Phones in random order, of 60 to 160 ms.

    Args:
        num_frames (int): T.
        rng (Generator): Random numbers.

    Returns:
        np.ndarray: (T,) uint8, indices into :data:`PHONES`.
    """
    phones: list[np.ndarray] = []
    last, left = -1, num_frames
    while left > 0:
        phone = int(rng.integers(len(PHONES) - 1))
        phone += phone >= last if last >= 0 else 0
        last, length = phone, int(rng.integers(6, 17))
        phones.append(np.full(min(length, left), phone, np.uint8))
        left -= length
    return np.concatenate(phones)


def synthesize(
    phones: np.ndarray, speaker: Speaker, rng: Generator
) -> np.ndarray:
    """Speak.

    Args:
        phones (np.ndarray): (T,), one each 10 ms.
        speaker (Speaker): Whose voice.
        rng (Generator): Of pitch, noise and loudness.

    Returns:
        np.ndarray: (T * 160,) float32 in [-1, 1], at 16 kHz.
    """
    tracks = _smooth(_TARGETS[phones])
    samples = np.arange(len(phones) * FRAME)
    centres = samples[::FRAME] + FRAME / 2
    voice, noise = (np.interp(samples, centres, t) for t in tracks.T[:2])
    source = voice * _pulses(len(samples), speaker, rng)
    noise = noise + speaker.breath * voice
    source += noise * rng.standard_normal(len(samples))
    formants = np.minimum(tracks[:, 2:] * speaker.throat, 7500)
    sound = _filter(source.reshape(-1, FRAME), _resonances(formants))
    sound *= rng.uniform(0.03, 0.1) / np.sqrt(np.mean(sound**2))
    sound += 0.001 * rng.standard_normal(len(sound))
    return sound.clip(-1, 1).astype(np.float32)


def _pulses(num: int, speaker: Speaker, rng: Generator) -> np.ndarray:
    """One a period of the pitch, which wanders by some percent."""
    # Takes 0.4 s to import, which who has other data need not wait for.
    from scipy.signal import lfilter

    knots = speaker.pitch * rng.uniform(0.9, 1.1, num // 3200 + 2)
    pitch = np.interp(np.arange(num), np.arange(len(knots)) * 3200, knots)
    periods = np.floor(rng.uniform() + np.cumsum(pitch / SAMPLE_RATE))
    pulses = np.diff(periods, prepend=periods[0])
    # The same power for every pitch.
    pulses *= np.sqrt(100 / speaker.pitch)
    return lfilter([1.0], [1.0, -speaker.tilt], pulses)


def _resonances(formants: np.ndarray) -> np.ndarray:
    """What three resonators in a row do to each frequency.

    Args:
        formants (np.ndarray): (T, 3), in Hz.

    Returns:
        np.ndarray: (T, WINDOW / 2 + 1), 1 at 0 Hz.
    """
    radius = np.exp(-np.pi * np.array(BANDWIDTHS) / SAMPLE_RATE)
    linear = -2 * radius * np.cos(2 * np.pi * formants / SAMPLE_RATE)
    square = radius**2
    delay = np.exp(-2j * np.pi * np.arange(WINDOW // 2 + 1) / WINDOW)
    poles = 1 + linear[..., None] * delay + square[:, None] * delay**2
    return ((1 + linear + square)[..., None] / poles).prod(1)


def _filter(frames: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Each frame through its own filter; what rings on is added.

    Args:
        frames (np.ndarray): (T, FRAME).
        response (np.ndarray): (T, WINDOW / 2 + 1).
    """
    spectra = np.fft.rfft(frames, WINDOW) * response
    ringing = np.fft.irfft(spectra, WINDOW).reshape(len(frames), -1, FRAME)
    hops = ringing.shape[1]
    sound = np.zeros((len(frames) + hops, FRAME))
    for hop in range(hops):
        sound[hop : hop + len(frames)] += ringing[:, hop]
    return sound[: len(frames)].ravel()


def _smooth(tracks: np.ndarray) -> np.ndarray:
    """Weighted means over 50 ms."""
    weights = np.hanning(7)[1:-1]
    weights /= weights.sum()
    padded = np.pad(tracks, ((2, 2), (0, 0)), mode='edge')
    return np.stack(
        [np.convolve(track, weights, mode='valid') for track in padded.T], 1
    )


_TARGETS = np.array(
    [[phone.voice, phone.noise, *phone.formants] for phone in PHONES.values()]
)
