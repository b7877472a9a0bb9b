"""Greedy InfoMax's loss, against loops over patches and plain PyTorch."""

import math

import pytest
import torch
from torch import nn

from mmlocal.models.local_heads import Boundary, PatchInfoNCEHead
from mmlocal.registry import MODELS
from mmlocal.step import LocalStep, activate

CUTS = ['backbone.stages.1', 'backbone.stages.2']
PIXEL_CNN = {'type': 'mmlocal.GatedPixelCNN', 'num_layers': 2}


def build_head(channels=8, grid=(7, 7), **kwargs):
    boundary = Boundary('end', channels, 1, patches=grid[0] * grid[1])
    if grid[0] != grid[1]:
        kwargs['grid'] = grid
    return PatchInfoNCEHead(boundary, **kwargs)


def loss_of(head, feat, images):
    inputs = torch.zeros(images, 1, 8, 8)
    return head.loss(feat, inputs, [])['loss_info_nce']


# The loss, number by number.


def by_hand(head, z, contexts, eps=0.0):
    """z and contexts (B, C, rows, columns), with the draws of this seed."""
    images, _, rows, columns = z.shape
    losses = []
    for k, predictor in enumerate(head.predictors, 1):
        below, weight = k + head.skip, predictor.weight[:, :, 0, 0]
        pool, anchors = [], []
        for y in range(rows - below):
            for x in range(columns):
                for b in range(images):
                    pool.append(weight @ z[b, :, y + below, x])
                    anchors.append(contexts[b, :, y, x])
        count = head.num_negatives
        draws = torch.randint(len(pool), (len(pool) * count, 1))
        terms = []
        for a, (context, target) in enumerate(zip(anchors, pool, strict=True)):
            mine = draws[a * count : (a + 1) * count, 0].tolist()
            logits = [context @ target, *(context @ pool[i] for i in mine)]
            p = torch.stack(logits).softmax(0)[0]
            terms.append(-(p + eps).log())
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    'settings',
    [
        {'num_steps': 1, 'num_negatives': 4},
        {'num_steps': 3, 'num_negatives': 2, 'skip': 0},
        {'num_steps': 2, 'num_negatives': 3, 'eps': 1e-2},
        {'num_steps': 2, 'num_negatives': 3, 'context': PIXEL_CNN},
    ],
)
@pytest.mark.parametrize('grid', [(4, 4), (5, 3)])
def test_loss_and_gradients_are_those_of_the_formula(settings, grid):
    head = build_head(grid=grid, **settings).double()
    rows, columns = grid
    shape = (2 * rows * columns, 8, 2, 2)
    feat = torch.randn(shape, dtype=torch.double, requires_grad=True)
    torch.manual_seed(1)
    found = loss_of(head, feat, images=2)
    z = feat.mean((2, 3)).view(2, rows, columns, 8).permute(0, 3, 1, 2)
    contexts = z if head.context is None else head.context(z)
    torch.manual_seed(1)
    expected = by_hand(head, z, contexts, settings.get('eps', 0))
    torch.testing.assert_close(found, expected)
    inputs = [feat, *head.parameters()]
    pairs = zip(
        torch.autograd.grad(found, inputs, retain_graph=True),
        torch.autograd.grad(expected, inputs),
        strict=True,
    )
    for first, second in pairs:
        torch.testing.assert_close(first, second)


def test_rows_that_are_compared():
    """Acceptance test 6: offsets 2 to 6, so that k = 5 pairs rows 0 and 6."""
    head = build_head(channels=49)
    # Patch i has feature i alone, so that a predictor's gradient tells which
    # ones met, as context (row) and as target (column).
    feat = torch.eye(49)
    met = []
    for k in range(5):
        head.zero_grad()
        found = loss_of(head, feat, images=1)
        (grad,) = torch.autograd.grad(found, head.predictors[k].weight)
        pairs = (grad[:, :, 0, 0] < 0).nonzero().tolist()
        met.append({(a // 7, t // 7) for a, t in pairs})
        assert all(a % 7 == t % 7 for a, t in pairs)
    assert met == [
        {(y, y + k + 1) for y in range(7 - k - 1)} for k in range(1, 6)
    ]
    with pytest.raises(ValueError, match='write num_steps=5 at most'):
        build_head(num_steps=6)


def test_cap():
    """The published 1e-11 ends at 25.3, where log-softmax goes on."""
    feat = torch.randn(2 * 9, 4) * 100
    losses = []
    for eps in 0.0, 1e-11:
        torch.manual_seed(0)
        head = build_head(4, (3, 3), num_steps=1, eps=eps)
        torch.manual_seed(1)
        losses.append(loss_of(head, feat, images=2))
    assert losses[0] > losses[1]
    assert losses[1] <= -math.log(1e-11) + 1e-4


def test_initial_loss_is_that_of_chance():
    """Acceptance test 2, of the published network with torch's weights."""
    backbone = MODELS.build(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {
                'type': 'mmlocal.PatchBackbone',
                'backbone': {
                    'type': 'mmlocal.PreActResNet',
                    'depth': 34,
                    'in_channels': 1,
                },
            },
            'boundaries': CUTS,
            'local_heads': {'type': 'mmlocal.PatchInfoNCEHead'},
            'local_end': True,
            'input_shape': (1, 64, 64),
        }
    )
    images = torch.randn(1, 1, 64, 64)
    step = LocalStep(backward=lambda loss: None, inputs=images)
    with activate(step):
        backbone(images)
    for index in range(3):
        loss = step.log[f'local_{index}.loss_info_nce']
        assert loss.item() == pytest.approx(math.log(17), abs=1e-2)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'num_steps': 0}, 'num_steps=0 must be 1 or more'),
        ({'skip': -1}, 'skip=-1 must be 0 or more'),
        ({'num_negatives': 0}, 'num_negatives=0 must be 1 or more'),
        ({'skip': 5, 'num_steps': 2}, 'num_steps=1 at most'),
        ({'grid': (7, 6)}, 'grid=7x6, but an image has 49 patches'),
    ],
)
def test_what_does_not_fit(kwargs, message):
    boundary = Boundary('end', 8, 1, patches=49)
    with pytest.raises(ValueError, match=message):
        PatchInfoNCEHead(boundary, **kwargs)


def test_features_that_are_not_of_these_patches():
    with pytest.raises(ValueError, match='features of whole images'):
        PatchInfoNCEHead(Boundary('end', 8, 1))
    # Of images that are larger than the head was made for.
    head = build_head(grid=(4, 4), num_steps=2)
    with pytest.raises(ValueError, match='write model.backbone.input_shape'):
        loss_of(head, torch.zeros(2 * 64, 8), images=2)


def test_an_odd_number_of_patches_needs_a_grid():
    boundary = Boundary('end', 8, 1, patches=15)
    with pytest.raises(ValueError, match='grid=3x3, but an image has 15'):
        PatchInfoNCEHead(boundary, num_steps=1)
    head = PatchInfoNCEHead(boundary, num_steps=1, grid=(5, 3))
    assert isinstance(head.predictors, nn.ModuleList)
