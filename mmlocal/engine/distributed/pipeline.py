"""What the ranks of a pipeline send each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .messages import Inbox, Outbox, Way
from .stages import Stages


@dataclass
class Share:
    """A batch on its way through the stages.

    Attributes:
        data (dict | tuple | list): Preprocessed: inputs and annotations.
            Local heads may ask for both.
        feat (Tensor, optional): What the next module takes in, if that is
            not the inputs.
    """

    data: Any
    feat: Tensor | None = None


class Pipeline:
    """Batches go to the first stage, features forward, predictions home.

    Each rank loads a batch of its own, as in data parallel training. It
    sends it to the first stage, from where it takes the way of all: so each
    is loaded, augmented and preprocessed once, and all stages see the same
    images and labels.

    Batches and predictions are sent from the host, where loaders and metrics
    have them; features from the device.

    Args:
        stages (Stages): Who is where.
        queue (int): Features that may be under way.
    """

    def __init__(self, stages: Stages, queue: int):
        here, last = stages.index, stages.count - 1
        on_host, host = stages.across_on_host, torch.device('cpu')

        def way(stage: int, kind: str) -> Way:
            return Way(stages.pipeline[stage], kind, on_host, on_host, host)

        def feature(stage: int) -> Way:
            peer, group = stages.pipeline[stage], stages.across
            return Way(peer, 'feature', on_host, group, stages.device)

        others = [stage for stage in range(stages.count) if stage != here]
        self.stages = stages
        if here == 0:
            self._batches = {s: Inbox(way(s, 'batch')) for s in others}
        else:
            self._to_first = Outbox(way(0, 'batch'), queue)
            self._features = Inbox(feature(here - 1))
        if here == last:
            self._home = {s: Outbox(way(s, 'prediction'), 1) for s in others}
        else:
            self._predictions = Inbox(way(last, 'prediction'))
            self._to_next = Outbox(feature(here + 1), queue)

    @property
    def sent(self) -> int:
        """Bytes that have left this rank."""
        boxes = [
            getattr(self, name, None) for name in ('_to_first', '_to_next')
        ]
        boxes += getattr(self, '_home', {}).values()
        return sum(box.sent for box in boxes if box is not None)

    def bring(self, batch: Any) -> None:
        """Send this rank's batch, and what goes with it, to the first."""
        if self.stages.index:
            self._to_first.send(batch)
        self._own = batch

    def batch_of(self, stage: int) -> Any:
        """On the first stage: what the rank of a stage has brought."""
        return self._batches[stage].take() if stage else self._own

    def share(self, number: int) -> Share:
        """On a later stage: the next share.

        Args:
            number (int): Of the share, in this step. But for the last one,
                the next is received while this one is computed.
        """
        share = self._features.take()
        if number < self.stages.count - 1:
            self._features.expect()
        return share

    def pass_on(self, share: Share) -> None:
        """Send a share to the next stage."""
        self._to_next.send(share)

    def bring_home(self, stage: int, predictions: Any) -> None:
        """On the last stage: send predictions to whose batch it was."""
        self._home[stage].send(predictions)

    def predictions(self) -> Any:
        """On an earlier stage: what the last one has predicted."""
        return self._predictions.take()
