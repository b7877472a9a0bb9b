"""What LocalFSDP says without other ranks; see also test_local_ddp.py."""

import pytest
import torch
from torch import nn

from mmlocal.engine.distributed import local_fsdp


def test_one_process_is_refused():
    with pytest.raises(RuntimeError, match='with one leave it out'):
        local_fsdp.LocalFSDP(nn.Linear(2, 2))


def test_a_torch_that_shards_on_gpus_only_is_named(monkeypatch):
    monkeypatch.setattr(torch.cpu, 'Stream', object)
    with pytest.raises(RuntimeError, match=r'run on CPUs; torch 2\.15 does'):
        local_fsdp._check_torch('cpu')
    local_fsdp._check_torch('cuda')
