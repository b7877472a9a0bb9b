from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmlocal.planner.autocast import CudaAutocast


def test_float32_where_cuda_has_it():
    x = torch.randn(2, 8, dtype=torch.float16)
    weight = torch.randn(4, 8)
    label = torch.tensor([1, 2])
    with torch.autocast('cpu', torch.float16), CudaAutocast():
        assert F.layer_norm(x, (8,)).dtype is torch.float32
        assert x.softmax(-1).dtype is torch.float32
        assert x.sum().dtype is torch.float32
        assert F.cross_entropy(x, label).dtype is torch.float32
        assert F.linear(x, weight).dtype is torch.float16
        assert F.relu(x).dtype is torch.float16
    with CudaAutocast():
        assert x.softmax(-1).dtype is torch.float16


def test_what_is_recomputed_runs_as_it_ran():
    block = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Softmax(-1))
    again = partial(checkpoint, block, use_reentrant=False)
    gradients = []
    for run in (block, again):
        feat = torch.linspace(-1, 1, 16).view(2, 8).requires_grad_()
        with CudaAutocast():
            with torch.autocast('cpu', torch.bfloat16):
                loss = run(run(feat)).square().sum()
            loss.backward()
        gradients.append(feat.grad)
    assert gradients[0].any()
    assert torch.equal(*gradients)
