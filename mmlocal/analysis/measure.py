"""The contract between features and what is measured of them."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .features import Features
from .forms import FORMS

# A number a module, or a row a module: None where there is none.
Values = dict[str, list[float | None] | list[list[float | None]]]

SPLITS = ('train', 'val')


@dataclass(frozen=True)
class Reading:
    """Which features a measure looks at.

    Args:
        split (str): 'train' or 'val', the data of the config; both without
            augmentation, as in validation. Defaults to 'val'.
        form (str): 'pool', the mean over a feature's positions (N, C);
            'flat', all of it (N, D), through a fixed random projection where
            D is large; 'map' as it is (N, C, h, w); 'frames' a column every
            10 ms of a waveform (N, C, T), with labels of frames. Defaults to
            'pool'.
        num_images (int, optional): A fixed choice of as many, of all classes
            alike. None for all, in order of the data set.
        group (int, optional): Have all classes alike in every ``group``
            images that follow one another; for measures of batches.
        inputs (bool): The images, too. Defaults to False.

    Raises:
        ValueError: If an argument is none of these.
    """

    split: str = 'val'
    form: str = 'pool'
    num_images: int | None = None
    group: int | None = None
    inputs: bool = False

    def __post_init__(self) -> None:
        for name, known in ('split', SPLITS), ('form', tuple(FORMS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name}={getattr(self, name)!r} is unknown: write one '
                    f'of {known}.'
                )


class Measure(metaclass=ABCMeta):
    """A number a module, from what the modules put out.

    Subclasses are registered in :data:`mmlocal.registry.MEASURES`, and named
    in configs by ``type``; arguments are settings and have defaults. They
    draw random numbers from generators of their own, with a ``seed``.

    Attributes:
        name (str): Under which the values are logged.
        references (bool): Whether the features of another network are
            passed on, if there is one. Defaults to False.
    """

    name: str
    references = False

    @property
    @abstractmethod
    def readings(self) -> Mapping[str, Reading]:
        """What :meth:`measure` is given, by argument."""

    @abstractmethod
    def measure(self, **features: Features) -> Values:
        """Measure.

        Args:
            **features (Features): One for each of :attr:`readings`; with
                ``references``, also ``reference``, or None: the same reading
                of another network.

        Returns:
            dict: By name, one number a module, or a row a module; None where
            there is none.
        """

    def settings(self) -> dict[str, Any]:
        """What the values depend on, to be kept beside them (JSON)."""
        return {
            key: value
            for key, value in vars(self).items()
            if not key.startswith('_')
        }
