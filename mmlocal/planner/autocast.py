"""CUDA's rules of mixed precision, for fake tensors on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from mmlocal.fake_tensors import run_backward

HALVES = (torch.float16, torch.bfloat16)
# https://docs.pytorch.org/docs/stable/amp.html, what autocasts to float32 on
# CUDA; on a CPU most of it keeps the type of its input.
NAMES = """
    binary_cross_entropy_with_logits cosine_embedding_loss cosine_similarity
    cross_entropy group_norm interpolate kl_div l1_loss layer_norm log_softmax
    mse_loss nll_loss normalize smooth_l1_loss softmax softmin softplus
"""
METHODS = """
    cumprod cumsum exp expm1 log log10 log1p log2 log_softmax norm pow prod
    reciprocal rsqrt softmax sum
"""
TO_FLOAT32 = {
    *(getattr(F, name) for name in NAMES.split()),
    *(getattr(torch, name) for name in METHODS.split()),
    *(
        getattr(Tensor, name)
        for name in METHODS.split()
        if hasattr(Tensor, name)
    ),
    Tensor.__pow__,
    Tensor.__rpow__,
    Tensor.__rtruediv__,
}


class CudaAutocast(TorchFunctionMode):
    """Runs in float32 what CUDA's autocast would run in float32.

    Matrix products and convolutions are left to ``torch.autocast('cpu')``,
    which treats them alike.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:
            given = {k: v for k, v in kwargs.items() if v is not None}
            if given.keys() <= {'retain_graph', 'create_graph'}:
                # Checkpointed blocks run again in there, as they have run.
                with self:
                    return run_backward(*args, **given)
        if func in TO_FLOAT32 and torch.is_autocast_enabled('cpu'):
            args, kwargs = tree_map_only(Tensor, _float32, (args, kwargs))
        return func(*args, **kwargs)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in HALVES else tensor
