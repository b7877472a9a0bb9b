"""LibriSpeech: an hour and a half of reading by each of 251 people."""

from __future__ import annotations

import numpy as np
from mmengine.fileio import get_text, join_path
from mmpretrain.datasets import BaseDataset

from mmlocal.datasets.files import require_files
from mmlocal.registry import DATASETS

# Of the aligned phones.
NUM_PHONES = 41


@DATASETS.register_module()
class LibriSpeech(BaseDataset):
    """Utterances of LibriSpeech's ``train-clean-100``, by lists of CPC.

    A data sample's ``gt_label`` is the speaker, 0 to 250 in the order of
    their numbers, and ``gt_frames`` the phone of every 10 ms, 0 to 40.
    Pipelines begin with :class:`mmlocal.LoadAudio`.

    Args:
        data_root (str): Folder of all below.
        ann_file (str): List of utterances, as ``train_split.txt``: a name a
            line, as 103-1240-0000.
        data_prefix (str): Folder of the audio,
            ``<speaker>/<chapter>/<utterance>.flac`` below it. Defaults to
            'train-clean-100'.
        lists (Sequence[str]): Of all utterances whose speakers are classes,
            so that training and test data have the same. Defaults to
            ('train_split.txt', 'test_split.txt').
        phones_file (str, optional): ``<utterance> <phone> <phone> ...`` a
            line. None for no phones, where no one learns them. Defaults to
            'converted_aligned_phones.txt'.
        suffix (str): Of audio files. Defaults to '.flac'.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If a list is missing.
        ValueError: If a list is empty, or utterances have no phones.
    """

    METAINFO = {'frame_classes': tuple(map(str, range(NUM_PHONES)))}

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        data_prefix: str = 'train-clean-100',
        lists: tuple[str, ...] = ('train_split.txt', 'test_split.txt'),
        phones_file: str | None = 'converted_aligned_phones.txt',
        suffix: str = '.flac',
        **kwargs,
    ) -> None:
        files = [*lists, *([phones_file] if phones_file else [])]
        paths = [join_path(data_root, name) for name in files]
        require_files('LibriSpeech', paths, data_root)
        self.phones_path = paths.pop() if phones_file else None
        self.suffix = suffix
        speakers = {
            _speaker(name) for path in paths for name in _read_list(path)
        }
        classes = sorted(speakers, key=int)
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            **{'classes': classes, **kwargs},
        )

    def load_data_list(self) -> list[dict]:
        """Paths, speakers and phones of the utterances of the list."""
        require_files('LibriSpeech', [self.ann_file], self.data_root)
        names = _read_list(self.ann_file)
        phones = self._read_phones({*names})
        missing = [name for name in names if name not in phones]
        if self.phones_path and missing:
            raise ValueError(
                f'LibriSpeech: {len(missing)} of {len(names)} utterances in '
                f'{self.ann_file} (as {missing[0]}) have no line in '
                f'{self.phones_path}: use lists and phones of one source, or '
                'phones_file=None.'
            )
        return [
            {
                'audio_path': join_path(
                    self.img_prefix,
                    *name.split('-')[:2],
                    f'{name}{self.suffix}',
                ),
                'gt_label': self.class_to_idx[_speaker(name)],
                **({'gt_frames': phones[name]} if name in phones else {}),
            }
            for name in names
        ]

    def _read_phones(self, names: set[str]) -> dict[str, np.ndarray]:
        if self.phones_path is None:
            return {}
        phones = {}
        for line in get_text(self.phones_path).splitlines():
            name, _, labels = line.partition(' ')
            if name in names:
                phones[name] = np.array(labels.split(), np.uint8)
        return phones


def _read_list(path: str) -> list[str]:
    names = get_text(path).split()
    if not names:
        raise ValueError(f'LibriSpeech: {path} lists no utterance.')
    return names


def _speaker(name: str) -> str:
    speaker = name.partition('-')[0]
    if not speaker.isdigit():
        raise ValueError(
            f'LibriSpeech: {name!r} is no utterance; they read like '
            '103-1240-0000.'
        )
    return speaker
