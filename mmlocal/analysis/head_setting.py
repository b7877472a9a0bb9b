"""How a linear head is trained to read features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

OPTIMIZERS = ('lbfgs', 'adam', 'sgd')
SCHEDULES = ('constant', 'cosine')
INITS = ('default', 'xavier_normal')
SELECTS = ('last', 'held_out', 'best')

PROTOCOLS: dict[str, dict[str, Any]] = {
    'clean': {},
    # Greedy InfoMax; 300 epochs, as many as it trains the encoder.
    'gim': dict(optimizer='adam', lr=1e-3, epochs=300, batch_size=32),
    # An utterance a step: LibriSpeech's train-clean-100 has 1,269 frames of
    # 10 ms in one, on average. Here they come from all utterances.
    'audio_phones': dict(
        optimizer='adam',
        lr=1e-4,
        epochs=20,
        batch_size=1269,
        init='xavier_normal',
    ),
    'audio_speakers': dict(
        optimizer='adam', lr=1e-3, epochs=50, batch_size=64
    ),
    'transfer': dict(
        optimizer='sgd',
        lr=0.4,
        momentum=0.9,
        weight_decay=5e-4,
        schedule='cosine',
        epochs=30,
        batch_size=512,
        select='best',
    ),
}


@dataclass(frozen=True)
class HeadSetting:
    r"""How a linear head is trained, and how that is chosen.

    Where ``lr`` or ``weight_decay`` lists several, every pair is tried on a
    held-out part of the training data, and the best is trained on all of
    them; the test data have no say in it, but for ``select='best'``.

    Args:
        optimizer (str): 'lbfgs' minimises

            .. math::
                \frac 1 n \sum_i \mathrm{CE}(W x_i + b, y_i)
                + \frac \lambda 2 \|W\|^2

            to the end; 'adam' and 'sgd' are torch's, in mini-batches.
            Defaults to 'lbfgs'.
        lr (float | Sequence[float]): Learning rates; 'lbfgs' has none.
        weight_decay (float | Sequence[float]): :math:`\lambda`. Defaults to
            0.1, 0.01, ..., 1e-5 with 'lbfgs', to 0 else.
        epochs (int): Over the training data; 1 with 'lbfgs'.
        batch_size (int): Samples a step, the last step of an epoch fewer.
        momentum (float): Of 'sgd'. Defaults to 0.
        schedule (str): Of the learning rate, set before each epoch:
            'constant', or 'cosine' to 0. Defaults to 'constant'.
        init (str): 'default', as ``nn.Linear``, or 'xavier_normal'; 'lbfgs'
            starts from 0.
        standardize (bool): Bring features to mean 0 and variance 1 by what
            the head is trained on. Defaults to True with 'lbfgs', to False
            else.
        select (str): Which epoch is read: 'last'; 'held_out', the best on
            the held-out part, after which as many epochs are trained on all;
            'best', the best on the *test* data, which is what some published
            code reports, and too optimistic. Defaults to 'last'.

    Raises:
        ValueError: If these contradict one another.
    """

    optimizer: str = 'lbfgs'
    lr: float | Sequence[float] | None = None
    weight_decay: float | Sequence[float] | None = None
    epochs: int = 1
    batch_size: int = 256
    momentum: float = 0.0
    schedule: str = 'constant'
    init: str = 'default'
    standardize: bool | None = None
    select: str = 'last'

    def __post_init__(self) -> None:
        for name, known in (
            ('optimizer', OPTIMIZERS),
            ('schedule', SCHEDULES),
            ('init', INITS),
            ('select', SELECTS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name}={getattr(self, name)!r} is unknown: write one '
                    f'of {known}.'
                )
        newton = self.optimizer == 'lbfgs'
        if newton and (self.lr is not None or self.epochs != 1):
            raise ValueError(
                "optimizer='lbfgs' has no learning rate and no epochs: leave "
                "out lr and epochs, or write optimizer='adam'."
            )
        if not newton and self.lr is None:
            raise ValueError(
                f'optimizer={self.optimizer!r} needs a learning rate: write '
                'lr=1e-3.'
            )
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f'epochs={self.epochs}, batch_size={self.batch_size}: both '
                'are 1 at least.'
            )
        if self.select == 'best' and len(self.pairs) > 1:
            raise ValueError(
                "select='best' would choose the setting, too, by the test "
                "data: write one lr and one weight_decay, or 'held_out'."
            )

    @property
    def pairs(self) -> list[tuple[float | None, float]]:
        """What is tried: (lr, weight decay), the strongest decay first."""
        decays = self.weight_decay
        if decays is None:
            newton = self.optimizer == 'lbfgs'
            decays = (0.1, 0.01, 1e-3, 1e-4, 1e-5) if newton else 0.0
        return [
            (lr, decay)
            for decay in sorted(_several(decays), reverse=True)
            for lr in _several(self.lr)
        ]

    @property
    def standardizes(self) -> bool:
        """Whether features are standardized."""
        if self.standardize is None:
            return self.optimizer == 'lbfgs'
        return self.standardize

    @property
    def chooses(self) -> bool:
        """Whether anything is to be chosen on held-out data."""
        return len(self.pairs) > 1 or self.select == 'held_out'

    @classmethod
    def of(cls, protocol: str, **changes: Any) -> HeadSetting:
        """A protocol, with changes.

        Args:
            protocol (str): A name of :data:`PROTOCOLS`.
            **changes: Arguments that are to differ.

        Raises:
            ValueError: If there is no such protocol or argument.
        """
        if protocol not in PROTOCOLS:
            raise ValueError(
                f'protocol={protocol!r} is unknown: write one of '
                f'{tuple(PROTOCOLS)}.'
            )
        known = [field.name for field in fields(cls)]
        for key in changes:
            if key not in known:
                raise ValueError(
                    f'a probe has no argument {key!r}: beside its own, it '
                    f'takes {", ".join(known)}.'
                )
        return cls(**(PROTOCOLS[protocol] | changes))


def _several(values: Any) -> Sequence[Any]:
    several = isinstance(values, Sequence) and not isinstance(values, str)
    return values if several else (values,)
