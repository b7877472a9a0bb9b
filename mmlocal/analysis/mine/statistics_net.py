"""Networks that score pairs."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlocal.analysis.seeded import linear


class Critic(nn.Module, metaclass=ABCMeta):
    """Scores the pairs of a batch, and with other partners."""

    @abstractmethod
    def scores(
        self, a: Tensor, b: Tensor, shifts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Score pairs.

        Args:
            a (Tensor): (n, A).
            b (Tensor): (n, B), the partners in order; n is 2 at least.
            shifts (int): Other partners of each, as far as there is a
                choice; n - 1 at most. Defaults to 1.

        Returns:
            tuple[Tensor, Tensor]: (n,) of the partners, (n, k) of others.
        """


class StatisticsNet(Critic):
    """A perceptron on both, one after the other.

    In a batch, the other partners of ``a[i]`` are ``b[i + 1]``, and so on,
    round the end; never its own, which would hold the bounds down.

    Args:
        dims (tuple[int, int]): A and B.
        hidden (int): Width of the hidden layers. Defaults to 1024.
        num_layers (int): Hidden layers. Defaults to 3.
        init_std (float, optional): Of the hidden layers' weights, normal,
            with biases 0. By default torch's initialisation; the last layer
            always has that.
        generator (torch.Generator): Of the initialisation.
    """

    def __init__(
        self,
        dims: tuple[int, int],
        generator: torch.Generator,
        hidden: int = 1024,
        num_layers: int = 3,
        init_std: float | None = None,
    ):
        super().__init__()
        init = 'default' if init_std is None else init_std
        widths = [sum(dims), *[hidden] * num_layers]
        self.split = dims[0]
        self.hidden = nn.ModuleList(
            linear(width, hidden, generator, init) for width in widths[:-1]
        )
        self.last = linear(hidden, 1, generator)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Scores (n,) of pairs (n, A), (n, B)."""
        return self._score(*self._parts(a, b))

    def scores(
        self, a: Tensor, b: Tensor, shifts: int = 1
    ) -> tuple[Tensor, Tensor]:
        # Each side once through the first layer, which is the largest.
        part_a, part_b = self._parts(a, b)
        marginal = [
            self._score(part_a, part_b.roll(-shift, 0))
            for shift in range(1, min(shifts, len(a) - 1) + 1)
        ]
        return self._score(part_a, part_b), torch.stack(marginal, 1)

    def _parts(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer adds up."""
        first = self.hidden[0]
        weight_a, weight_b = first.weight.tensor_split([self.split], 1)
        return F.linear(a, weight_a, first.bias), F.linear(b, weight_b)

    def _score(self, part_a: Tensor, part_b: Tensor) -> Tensor:
        feat = (part_a + part_b).relu()
        for layer in self.hidden[1:]:
            feat = layer(feat).relu()
        return self.last(feat)[:, 0]


class SeparableCritic(Critic):
    """A perceptron on each, and their inner product.

    All pairs of a batch for the price of n: every other partner is scored,
    whatever ``shifts``.

    Args:
        dims (tuple[int, int]): A and B.
        generator (torch.Generator): Of the initialisation.
        hidden (int): Width of the hidden layers.
        num_layers (int): Hidden layers of each.
        embed_dim (int): Of the inner product. Defaults to 64.
    """

    def __init__(
        self,
        dims: tuple[int, int],
        generator: torch.Generator,
        hidden: int = 256,
        num_layers: int = 2,
        embed_dim: int = 64,
    ):
        super().__init__()
        self.nets = nn.ModuleList()
        for dim in dims:
            layers: list[nn.Module] = []
            for width in [dim, *[hidden] * (num_layers - 1)]:
                layers += [linear(width, hidden, generator), nn.ReLU()]
            layers.append(linear(hidden, embed_dim, generator))
            self.nets.append(nn.Sequential(*layers))

    def scores(
        self, a: Tensor, b: Tensor, shifts: int = 1
    ) -> tuple[Tensor, Tensor]:
        matrix = self.nets[0](a) @ self.nets[1](b).T
        n = len(matrix)
        # Without the diagonal: drop the first, then each row is one longer.
        others = matrix.flatten()[1:].view(n - 1, n + 1)[:, :-1]
        return matrix.diagonal(), others.reshape(n, n - 1)


CRITICS = {'concat': StatisticsNet, 'separable': SeparableCritic}
