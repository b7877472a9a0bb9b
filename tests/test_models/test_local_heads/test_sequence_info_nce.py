"""InfoNCE along sequences, against a direct computation."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.backbones.cpc_audio import ENCODING
from mmlocal.models.local_heads import Boundary, SequenceInfoNCEHead
from mmlocal.step import LocalStep, activate

LAYERS = ['layers.1', 'layers.2', 'layers.3', 'layers.4']
SPLITS = {6: [*LAYERS, 'autoregressor'], 5: LAYERS, 1: []}
BATCH, LENGTH, WINDOW, CHANNELS, STEPS, COUNT = 3, 11, 8, 4, 2, 5


def place(layout: str = 'sequence', channels: int = CHANNELS) -> Boundary:
    return Boundary('layers.1', channels, 5, layout)


def directly(
    encoding: torch.Tensor,
    context: torch.Tensor,
    matrix: torch.Tensor,
    sampler: str,
    window: int,
) -> torch.Tensor:
    """The loss, term by term, with the same random numbers.

    Args:
        encoding (Tensor): (B, C, L).
        context (Tensor): (B, C', L).
        matrix (Tensor): (K * C, C').
    """
    length = encoding.shape[2]
    start = 0
    if length > window:
        start = int(torch.randint(0, length - window, ()))
    total = min(length, window)
    if sampler == 'permutation':
        orders = [torch.randperm(BATCH * length) for _ in range(COUNT)]
    elif sampler == 'sequence':
        orders = [torch.randperm(length) for _ in range(COUNT)]
        first = 0
        if length > window:
            first = int(torch.randint(0, length - window, ()))
    losses = []
    for k in range(1, STEPS + 1):
        num = BATCH * (total - k)
        if sampler == 'offset':
            offsets = torch.randint(1, num, (num, COUNT))
        anchors = [(b, t) for b in range(BATCH) for t in range(total - k)]
        terms = []
        for i, (b, t) in enumerate(anchors):
            step = matrix[(k - 1) * CHANNELS : k * CHANNELS]
            guess = step @ context[b, :, start + t]
            logits = [encoding[b, :, start + t + k] @ guess]
            for n in range(COUNT):
                if sampler == 'offset':
                    other, there = anchors[(i + int(offsets[i, n])) % num]
                    there += start + k
                elif sampler == 'permutation':
                    row = int(orders[n][BATCH * length - num + i])
                    other, there = divmod(row, length)
                else:
                    other, there = b, int(orders[n][first + k + t])
                logits.append(encoding[other, :, there] @ guess)
            terms.append(-torch.stack(logits).log_softmax(0)[0])
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize('length', [LENGTH, WINDOW, WINDOW - 1])
@pytest.mark.parametrize('sampler', ['offset', 'permutation', 'sequence'])
def test_equals_a_direct_computation(sampler, length):
    """Loss and gradients; of longer sequences a window is taken."""
    head = SequenceInfoNCEHead(place(), STEPS, COUNT, sampler, WINDOW)
    feat = torch.randn(BATCH, CHANNELS, length, requires_grad=True)
    weight = head.predictor.weight
    torch.manual_seed(1)
    expected = directly(feat, feat, weight, sampler, WINDOW)
    torch.manual_seed(1)
    found = head.loss(feat, None, None)['loss_nce']
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (feat, weight))
    references = torch.autograd.grad(expected, (feat, weight))
    for grad, reference in zip(grads, references, strict=True):
        torch.testing.assert_close(grad, reference)


def test_predicts_what_an_autoregressor_takes_in():
    """And it is handed over once: the next head reads its own feature."""
    head = SequenceInfoNCEHead(
        place(channels=3), STEPS, COUNT, window=None, target_channels=CHANNELS
    )
    encoding = torch.randn(BATCH, CHANNELS, LENGTH)
    context = torch.randn(BATCH, 3, LENGTH)
    weight = head.predictor.weight
    torch.manual_seed(1)
    expected = directly(encoding, context, weight, 'permutation', LENGTH)
    torch.manual_seed(1)
    step = LocalStep(store={ENCODING: encoding})
    with activate(step):
        found = head.loss(context, None, None)['loss_nce']
    torch.testing.assert_close(found, expected)
    assert not step.store


def test_a_context_of_its_own():
    """It reads the whole sequence, of which the window is cut out then."""
    head = SequenceInfoNCEHead(
        place(), STEPS, COUNT, window=WINDOW, context_channels=3
    )
    feat = torch.randn(BATCH, CHANNELS, LENGTH)
    context, weight = head.context(feat), head.predictor.weight
    torch.manual_seed(1)
    expected = directly(feat, context, weight, 'permutation', WINDOW)
    torch.manual_seed(1)
    found = head.loss(feat, None, None)['loss_nce']
    torch.testing.assert_close(found, expected)


def test_other_targets_are_never_the_right_one():
    """Where all others are orthogonal, the right one wins."""
    head = SequenceInfoNCEHead(place(channels=6), 1, 4, 'offset', None)
    feat = torch.eye(6)[None]
    with torch.no_grad():
        # The next unit vector is predicted from each.
        head.predictor.weight.copy_(torch.eye(6).roll(1, 0))
    found = head.loss(feat, None, None)
    assert found['acc'] == 100
    fit = math.log1p(4 * math.exp(-1))
    assert found['loss_nce'].item() == pytest.approx(fit)


@pytest.mark.parametrize('count', SPLITS)
def test_gradients_are_those_of_one_backward(count, helpers):
    """With the feature detached at the cuts; each module has its own."""
    model = helpers.build(helpers.audio_cfg(SPLITS[count]))
    batch = helpers.audio_batch()
    wrap = LocalOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    reference = deepcopy(model)
    wrap.zero_grad = lambda: None
    torch.manual_seed(1)
    log = model.train_step(deepcopy(batch), wrap)
    data = reference.data_preprocessor(batch, True)
    backbone, feat = reference.backbone, data['inputs']
    torch.manual_seed(1)
    losses = []
    with activate(LocalStep()):
        for index, head in enumerate(backbone.local_heads):
            feat = backbone.run_module(index, feat.detach())
            losses.append(head.loss(feat, None, None)['loss_nce'])
    own = reference.head.loss(
        reference.neck((feat.detach(),)), data['data_samples']
    )
    (sum(losses) + own['loss']).backward()
    assert log['loss'].item() == pytest.approx(own['loss'].item())
    grads = helpers.grads(model)
    for name, reference_grad in helpers.grads(reference).items():
        torch.testing.assert_close(grads[name], reference_grad, msg=name)
    for index, loss in enumerate(losses):
        for other in range(count):
            for weight in backbone.module_weights(other):
                # Freed graphs are not walked: None without a path.
                assert (other == index) == reaches(loss, weight)


def reaches(loss: torch.Tensor, weight: torch.Tensor) -> bool:
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, 'variable', None) is weight:
            return True
        stack += [parent for parent, _ in node.next_functions]
    return False


@pytest.mark.parametrize('size', [4, 1])
def test_the_first_loss_is_that_of_chance(size, helpers):
    """Of deep layers; noise of variance 1 makes that of the first larger."""
    cfg = helpers.audio_cfg(SPLITS[6], channels=32, context_channels=16)
    cfg['head']['in_channels'] = 16
    cfg['backbone']['local_heads'] = {
        'type': 'mmlocal.SequenceInfoNCEHead',
        'target_channels': 32,
        'num_steps': 12,
    }
    model = helpers.build(cfg)
    data = model.data_preprocessor(helpers.audio_batch(size), True)
    feat, losses = data['inputs'], []
    with activate(LocalStep()):
        for index, head in enumerate(model.backbone.local_heads):
            feat = model.backbone.run_module(index, feat)
            losses.append(head.loss(feat, None, None)['loss_nce'].item())
    assert losses[1:] == pytest.approx([math.log(11)] * 5, abs=0.03)
    assert math.log(11) - 0.03 < losses[0] < 4


@pytest.mark.parametrize('bptt', [True, False])
def test_mixed_precision_and_accumulation(bptt, helpers):
    """The losses are those of full precision, nearly; halves are a whole."""
    cfg = helpers.audio_cfg(SPLITS[6], bptt=bptt)
    batch, logs, grads = helpers.audio_batch(), [], []
    for kind, options in (
        (LocalOptimWrapper, {}),
        (LocalAmpOptimWrapper, {'dtype': 'bfloat16', 'loss_scale': 1.0}),
        (LocalOptimWrapper, {'accumulative_counts': 2}),
    ):
        model = helpers.build(cfg)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        wrap = kind(optimizer=optimizer, **options)
        wrap.zero_grad = lambda: None
        for _ in range(options.get('accumulative_counts', 1)):
            torch.manual_seed(1)
            model.train_step(deepcopy(batch), wrap)
        logs.append({k: float(v) for k, v in wrap.step_log.items()})
        grads.append(helpers.grads(model))
    losses = [key for key in logs[0] if 'loss' in key]
    assert len(losses) == 6
    for key in losses:
        assert logs[1][key] == pytest.approx(logs[0][key], rel=0.01)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[2][name], grad, msg=name)
        assert grads[1][name].dtype == torch.float32
        assert grads[1][name].isfinite().all() and grads[1][name].any()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'sampler': 'random'}, 'sampler.*offset.*permutation'),
        ({'num_steps': 0}, 'num_steps=0'),
        ({'window': 12}, 'window=12.*13 or more'),
        ({'boundary': place('map')}, 'carries map.*for signals'),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        SequenceInfoNCEHead(**{'boundary': place(), **changes})


def test_what_does_not_fit_the_head():
    head = SequenceInfoNCEHead(place())
    with pytest.raises(ValueError, match='12 needs a sequence of 13 .* has 9'):
        head.loss(torch.zeros(2, CHANNELS, 9), None, None)
    step = LocalStep(store={ENCODING: torch.zeros(2, 7, 20)})
    with (
        activate(step),
        pytest.raises(ValueError, match='target_channels=7'),
    ):
        head.loss(torch.zeros(2, CHANNELS, 20), None, None)
    alone = SequenceInfoNCEHead(place(), 1, sampler='offset')
    with pytest.raises(ValueError, match='no other beside it'):
        alone.loss(torch.zeros(1, CHANNELS, 2), None, None)
