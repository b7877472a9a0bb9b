"""How mutual information is estimated."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .bounds import BOUNDS
from .statistics_net import CRITICS

COUNTS = (
    'batch_size',
    'hidden',
    'num_layers',
    'iterations',
    'window',
    'interval',
)

PROTOCOLS: dict[str, dict[str, dict[str, Any]]] = {
    'held_out': {'xt': {}, 'ty': {}},
    # As in `Discriminability-Transferability Trade-Off`.
    'published': {
        mode: dict(
            holdout=0.0,
            standardize=False,
            batch_size=5000,
            marginals='independent',
            hidden=1024,
            num_layers=3,
            init_std=0.02,
            lr=lr,
            iterations=iterations,
            window=500,
        )
        for mode, lr, iterations in (
            ('xt', 8e-5, 10_000),
            ('ty', 1e-5, 20_000),
        )
    },
}


@dataclass(frozen=True)
class MineSetting:
    """How a bound is estimated.

    Args:
        bound (str): 'dv' (MINE), 'nwj' or 'infonce'. Defaults to 'dv'.
        critic (str, optional): 'concat', a perceptron on both, or
            'separable', one on each and an inner product. By default the
            second for 'infonce', which needs many other partners.
        holdout (float): Part of the samples that the network is not trained
            on, and the value is read from. 0 trains on all and reads the
            value on the training batches, which grows with training for
            whatever data. Defaults to 0.5.
        standardize (bool): Bring both sides to mean 0 and variance 1, by
            what is trained on. Defaults to True.
        batch_size (int): Pairs a step; all that there are at most. Defaults
            to 256.
        marginals (str): Other partners of each: 'shifted', from the same
            pairs; 'independent', the other pairs are drawn anew, both sides
            apart. Defaults to 'shifted'.
        hidden (int): Width of hidden layers. Defaults to 256.
        num_layers (int): Hidden layers. Defaults to 2.
        init_std (float, optional): See :class:`StatisticsNet`.
        lr (float): Of Adam. Defaults to 5e-4.
        iterations (int): Steps. Defaults to 500.
        window (int): Last steps whose mean is the in-sample value; all that
            there are at most. Defaults to 50.
        interval (int): Steps between looks at the held-out part. Defaults to
            25.
        ema (float): Rate of the running mean of 'dv'. Defaults to 0.01.

    Raises:
        ValueError: If one of them is unknown or out of its range.
    """

    bound: str = 'dv'
    critic: str | None = None
    holdout: float = 0.5
    standardize: bool = True
    batch_size: int = 256
    marginals: str = 'shifted'
    hidden: int = 256
    num_layers: int = 2
    init_std: float | None = None
    lr: float = 5e-4
    iterations: int = 500
    window: int = 50
    interval: int = 25
    ema: float = 0.01

    def __post_init__(self) -> None:
        for name, known in (
            ('bound', tuple(BOUNDS)),
            ('critic', (None, *CRITICS)),
            ('marginals', ('shifted', 'independent')),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name}={getattr(self, name)!r} is unknown: write one '
                    f'of {known}.'
                )
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(
                    f'{name}={getattr(self, name)} must be 1 or more.'
                )
        if not 0 <= self.holdout < 1:
            raise ValueError(f'holdout={self.holdout}: must be in [0, 1).')
        if self.init_std is not None and self.separable:
            raise ValueError("init_std is of critic='concat': leave it out.")
        if self.marginals == 'independent' and (
            self.separable or self.bound == 'infonce'
        ):
            raise ValueError(
                "marginals='independent' is for critic='concat' and bound "
                "'dv' or 'nwj': write 'shifted'."
            )

    @property
    def separable(self) -> bool:
        """Whether the critic is separable."""
        if self.critic is None:
            return self.bound == 'infonce'
        return self.critic == 'separable'

    @classmethod
    def of(cls, protocol: str, mode: str, **changes: Any) -> MineSetting:
        """A protocol for 'xt' or 'ty', with changes.

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
                    f'MINE has no argument {key!r}: beside its own, '
                    f'MutualInformation takes {", ".join(known)}.'
                )
        return cls(**(PROTOCOLS[protocol][mode] | changes))
