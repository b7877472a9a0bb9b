"""Pipelines of waveforms."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from mmpretrain.structures import DataSample

from mmlocal.datasets.formants import SAMPLE_RATE
from mmlocal.models.frames import FRAME, LENGTH
from mmlocal.registry import TRANSFORMS

# Label of 10 ms that have none.
IGNORED = 255
PLACES = ('random', 'center', 'start')
ALIGNMENTS = ('start', 'end')


@TRANSFORMS.register_module()
class LoadAudio(BaseTransform):
    """Reads a waveform, in any format of libsndfile.

    Needs ``soundfile``, which ``pip install mmlocal[audio]`` brings. It adds
    ``audio``, (samples,) float32 in [-1, 1], from ``audio_path``.

    Args:
        sample_rate (int): What the file must have. Defaults to 16,000.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self.sample_rate = sample_rate

    def transform(self, results: dict) -> dict:
        """Read.

        Raises:
            ImportError: Without ``soundfile``.
            ValueError: If the file is no mono audio of that rate.
        """
        try:
            import soundfile
        except ImportError as error:
            raise ImportError(
                'LoadAudio reads files with soundfile, which is not there: '
                'pip install mmlocal[audio]'
            ) from error
        path = results['audio_path']
        try:
            audio, rate = soundfile.read(BytesIO(get(path)), dtype='float32')
        except soundfile.LibsndfileError as error:
            raise ValueError(f'{path} is no audio file: {error}') from error
        if audio.ndim != 1 or rate != self.sample_rate:
            channels = 1 if audio.ndim == 1 else audio.shape[1]
            raise ValueError(
                f'{path} has {channels} channels at {rate} Hz, and one at '
                f'{self.sample_rate} Hz is read: convert it, or write '
                'sample_rate= of LoadAudio.'
            )
        results['audio'] = audio
        return results


@TRANSFORMS.register_module()
class CropAudio(BaseTransform):
    """Cuts a piece of a waveform out, and its labels.

    It begins at a multiple of 10 ms (160 samples), so that labels stay
    whole. What is shorter is filled up with silence, and labels that are
    missing with 255, which does not count.

    Args:
        length (int): Samples, a multiple of 160. Defaults to 20,480.
        place (str): 'random', but not at the very beginning if there is a
            choice, as published; 'center' or 'start'. Defaults to 'random'.
        align (str): Where labels and waveform meet, if they are not equally
            long: at the 'start', or at the 'end', as published. Defaults to
            'start'.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self,
        length: int = LENGTH,
        place: str = 'random',
        align: str = 'start',
    ) -> None:
        if length < FRAME or length % FRAME:
            raise ValueError(
                f'CropAudio.length={length}: write a multiple of {FRAME} '
                'samples, which are 10 ms.'
            )
        for name, value, known in (
            ('place', place, PLACES),
            ('align', align, ALIGNMENTS),
        ):
            if value not in known:
                raise ValueError(
                    f'CropAudio.{name}={value!r} is unknown: write one of '
                    f'{known}.'
                )
        self.length = length
        self.place = place
        self.align = align

    def transform(self, results: dict) -> dict:
        """Crop ``audio`` and, if there, ``gt_frames``."""
        audio = results['audio']
        count, total = self.length // FRAME, len(audio) // FRAME
        first = self._first(max(total - count, 0))
        piece = audio[first * FRAME : first * FRAME + self.length]
        missing = self.length - len(piece)
        results['audio'] = np.pad(piece, (0, missing))
        if 'gt_frames' in results:
            labels = np.asarray(results['gt_frames'])
            if self.align == 'end':
                first -= total - len(labels)
            places = first + np.arange(count)
            there = (places >= 0) & (places < len(labels))
            found = np.full(count, IGNORED, np.int64)
            found[there] = labels[places[there]]
            results['gt_frames'] = found
        return results

    def _first(self, spare: int) -> int:
        if self.place == 'random' and spare:
            return int(np.random.randint(1, spare + 1))
        return spare // 2 if self.place == 'center' else 0


@TRANSFORMS.register_module()
class PackAudio(BaseTransform):
    """Packs a waveform (1, samples) and a data sample of mmpretrain.

    ``gt_label`` is the speaker, ``gt_frames`` (T,) the phone of every 10 ms.

    Args:
        meta_keys (Sequence[str]): What is kept besides. Defaults to
            ('sample_idx', 'audio_path').
    """

    def __init__(
        self, meta_keys: tuple[str, ...] = ('sample_idx', 'audio_path')
    ) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: dict) -> dict:
        """Pack."""
        audio = np.ascontiguousarray(results['audio'], np.float32)
        meta = {key: results[key] for key in self.meta_keys if key in results}
        sample = DataSample(metainfo=meta)
        if 'gt_label' in results:
            sample.set_gt_label(results['gt_label'])
        if 'gt_frames' in results:
            labels = torch.as_tensor(np.asarray(results['gt_frames']))
            sample.set_field(labels.long(), 'gt_frames')
        return {
            'inputs': torch.from_numpy(audio)[None],
            'data_samples': sample,
        }
