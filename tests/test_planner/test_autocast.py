from __future__ import annotations

import torch
from torch.nn import functional as F

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
