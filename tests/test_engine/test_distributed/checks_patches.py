"""Greedy InfoMax and CPC on two ranks."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from checks_gradients import classifier, compare, small_buckets
from worker import check

from mmlocal.models.local_heads import Boundary, PatchInfoNCEHead


def greedy_info_max(**head) -> dict:
    net = {
        'type': 'mmlocal.PatchBackbone',
        'backbone': {
            'type': 'mmlocal.PreActResNet',
            'depth': 34,
            'in_channels': 3,
            'base_channels': 4,
            'stage_blocks': (1, 1, 1),
        },
        'patch_size': 8,
        'stride': 4,
    }
    cfg = classifier(net, 16, ['backbone.stages.1', 'backbone.stages.2'])
    cfg['neck'] = {'type': 'mmlocal.PatchPooling', 'grid': 7}
    cfg['backbone'] |= {
        'local_heads': {'type': 'mmlocal.PatchInfoNCEHead', **head},
        'local_end': True,
    }
    return cfg


@check()
def gradients_of_patches(rank: int, folder: Path) -> None:
    """Each rank draws negatives of its own batch, or of all."""
    for counts in (1, 2):
        compare(greedy_info_max(), counts, steps=2)
    cfg = greedy_info_max(context={'type': 'mmlocal.GatedPixelCNN'})
    cfg['backbone']['boundaries'] = []
    compare(cfg, 1, small_buckets, steps=2)


@check()
def negatives_of_all_ranks(rank: int, folder: Path) -> None:
    """As if the pool were those of both, in their order."""
    boundary = Boundary('end', 4, 1, patches=9)
    head = PatchInfoNCEHead(boundary, num_steps=1, skip=0, all_ranks=True)
    for weight in head.parameters():
        dist.broadcast(weight.data, 0)
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(2, 2 * 9, 4, generator=generator)
    feat = feats[rank].clone().requires_grad_()
    torch.manual_seed(rank)
    loss = head.loss(feat, torch.zeros(2, 1, 4, 4), [])['loss_info_nce']
    loss.backward()

    own = feats[rank].clone().requires_grad_()
    weight = head.predictors[0].weight.detach()[:, :, 0, 0].clone()
    weight.requires_grad_()
    pools, anchors = [], None
    for number in range(2):
        z = (own if number == rank else feats[number]).view(2, 3, 3, 4)
        z = z.permute(1, 2, 0, 3)  # rows, columns, images
        used = weight if number == rank else weight.detach()
        pools.append(z[1:].reshape(-1, 4) @ used.T)
        if number == rank:
            anchors = z[:2].reshape(-1, 4)
    pool = torch.cat(pools)
    torch.manual_seed(rank)
    draws = torch.randint(len(pool), (len(anchors) * 16, 1)).view(-1, 16)
    assert draws.max() >= len(anchors)
    positive = (anchors * pools[rank]).sum(1, keepdim=True)
    negative = torch.einsum('ac,anc->an', anchors, pool[draws])
    scores = torch.cat([positive, negative], 1).log_softmax(1)
    expected = -scores[:, 0].mean()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(feat.grad, own.grad)
    grad = head.predictors[0].weight.grad[:, :, 0, 0]
    torch.testing.assert_close(grad, weight.grad)
