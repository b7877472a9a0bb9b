"""A mini-batch as it waits for the next module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from mmengine.utils import apply_to
from torch import Tensor


@dataclass(frozen=True)
class Replayed:
    """What a module takes in, and what its head reads beside that.

    Args:
        feat (Tensor): The output of the module before, without a graph.
        data (dict): The preprocessed batch: ``inputs`` (N, C, H, W) and
            ``data_samples``. Shared by all buffers that the batch is in.
    """

    feat: Tensor
    data: dict[str, Any]

    def load(self, device: torch.device) -> tuple[Tensor, dict[str, Any]]:
        """Feature and data on a device.

        The feature is a copy, since a module may begin with a layer that
        writes in place, and the batch may be read again.
        """
        return self.feat.to(device, copy=True), to_device(self.data, device)

    def to(
        self, device: torch.device, moved: dict[int, dict[str, Any]]
    ) -> Replayed:
        """The same on a device.

        Args:
            device (torch.device): Where to.
            moved (dict[int, dict]): Data that is there already, by the id of
                what it was; it goes on being shared.
        """
        key = id(self.data)
        if key not in moved:
            moved[key] = to_device(self.data, device)
        return Replayed(self.feat.to(device), moved[key])


def to_device(data: Any, device: torch.device) -> Any:
    """Nested data with its tensors and data elements on a device."""
    return apply_to(
        data,
        lambda value: isinstance(value, (Tensor, BaseDataElement)),
        lambda value: value.to(device),
    )


def num_bytes(data: Any) -> int:
    """Bytes of all tensors in nested data."""
    if isinstance(data, Tensor):
        return data.numel() * data.element_size()
    if isinstance(data, BaseDataElement):
        return num_bytes(data.values())
    if isinstance(data, Mapping):
        return num_bytes([*data.values()])
    if isinstance(data, Sequence) and not isinstance(data, str):
        return sum(map(num_bytes, data))
    return 0
