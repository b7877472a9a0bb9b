"""Synthetic speech, as a data set."""

from __future__ import annotations

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmlocal.datasets.formants import (
    PHONES,
    Speaker,
    draw_phones,
    synthesize,
)
from mmlocal.registry import DATASETS

SPLITS = ('train', 'val')


@DATASETS.register_module()
class FormantSpeech(BaseDataset):
    """Utterances without meaning that are made, not downloaded.

    See :mod:`mmlocal.datasets.formants`. Each utterance is a random row of
    phones, spoken by one of the speakers, who take turns; both splits have
    the same speakers. An utterance is a pure function of its arguments.

    No transform loads them; a data sample's ``gt_label`` is the speaker, and
    ``gt_frames`` the phone of every 10 ms.

    Args:
        num_utterances (int): How many. Defaults to 1000.
        num_speakers (int): How many voices there are. Defaults to 20.
        num_frames (int): Length of an utterance in units of 10 ms. Defaults
            to 160.
        split (str): 'train' or 'val', which share no utterance. Defaults to
            'train'.
        seed (int): Another seed is another data set. Defaults to 0.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ValueError: For an argument out of range.
    """

    METAINFO = {'frame_classes': tuple(PHONES)}

    def __init__(
        self,
        num_utterances: int = 1000,
        num_speakers: int = 20,
        num_frames: int = 160,
        split: str = 'train',
        seed: int = 0,
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r}: write one of {SPLITS}.')
        if min(num_utterances, num_speakers, num_frames) < 1 or seed < 0:
            raise ValueError(
                f'num_utterances={num_utterances}, num_speakers='
                f'{num_speakers}, num_frames={num_frames}, seed={seed}: '
                'write at least 1, and a seed of 0 or more.'
            )
        self.num_utterances = num_utterances
        self.num_speakers = num_speakers
        self.num_frames = num_frames
        self.split = split
        self.seed = seed
        classes = [f'speaker {index}' for index in range(num_speakers)]
        super().__init__(ann_file='', **{'classes': classes, **kwargs})

    def load_data_list(self) -> list[dict]:
        """The waveforms, 16 bit, with speaker and phones."""
        voices = [
            Speaker.draw(np.random.default_rng((self.seed, 0, index)))
            for index in range(self.num_speakers)
        ]
        stream = 1 + SPLITS.index(self.split)
        data_list = []
        for index in range(self.num_utterances):
            rng = np.random.default_rng((self.seed, stream, index))
            phones = draw_phones(self.num_frames, rng)
            speaker = index % self.num_speakers
            audio = synthesize(phones, voices[speaker], rng)
            data_list.append(
                {
                    'audio': np.rint(audio * 32767).astype(np.int16),
                    'gt_label': speaker,
                    'gt_frames': phones,
                }
            )
        return data_list

    def get_data_info(self, idx: int) -> dict:
        """An utterance, as float32 in [-1, 1]."""
        info = super().get_data_info(idx)
        info['audio'] = info['audio'].astype(np.float32) / 32767
        return info
