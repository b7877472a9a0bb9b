from copy import deepcopy

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.local_heads import LocalHead
from mmlocal.registry import MODELS
from mmlocal.step import current_step

CUTS = ['layer2.0', 'layer4.0']
GROUP_NORM = {'type': 'GN', 'num_groups': 2}


@pytest.fixture
def cfg(helpers):
    """A segmentor whose samples do not meet in a norm layer or dropout."""
    head = {
        'type': 'mmlocal.InfoProHead',
        'preset': 'cifar',
        'norm_cfg': GROUP_NORM,
        'task': {
            'type': 'mmlocal.TaskHead',
            'head': {
                'type': 'FCNHead',
                'channels': 4,
                'num_convs': 1,
                'num_classes': 4,
                'dropout_ratio': 0,
                'norm_cfg': GROUP_NORM,
            },
        },
    }
    cfg = helpers.segmentor_cfg(CUTS, head, norm_cfg=GROUP_NORM)
    cfg['decode_head']['norm_cfg'] = GROUP_NORM
    return cfg


def wrapper(model, kind=LocalOptimWrapper, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return kind(optimizer=optimizer, **kwargs)


def keep_gradients(wrap):
    """Let the wrapper's last step leave gradients and weights alone."""
    wrap.step = wrap.zero_grad = lambda **kwargs: None


def half(batch, index):
    part = slice(2 * index, 2 * index + 2)
    return {key: value[part] for key, value in batch.items()}


def test_accumulation_gives_the_large_batch(helpers, cfg):
    """The gradients of one batch; each of its parts counts once."""
    batch = helpers.segmentation_batch(4)
    whole, accumulated = helpers.build(cfg), helpers.build(cfg)
    wrap = wrapper(whole)
    keep_gradients(wrap)
    whole.train_step(deepcopy(batch), wrap)
    expected = helpers.grads(whole)

    wrap = wrapper(accumulated, accumulative_counts=2)
    wrap.initialize_count_status(accumulated, 0, 10)
    keep_gradients(wrap)
    for index in range(2):
        accumulated.train_step(deepcopy(half(batch, index)), wrap)
        assert wrap.inner_count == index + 1
    for name, gradient in helpers.grads(accumulated).items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name


def test_last_incomplete_group_is_scaled_alike(helpers, cfg):
    """3 micro-steps in groups of 2: the last one counts alone."""
    batch = helpers.segmentation_batch()
    expected_model, model = helpers.build(cfg), helpers.build(cfg)
    wrap = wrapper(expected_model)
    keep_gradients(wrap)
    expected_model.train_step(deepcopy(batch), wrap)
    wrap = wrapper(model, accumulative_counts=2)
    wrap.initialize_count_status(model, 2, 3)
    keep_gradients(wrap)
    model.train_step(deepcopy(batch), wrap)
    expected = helpers.grads(expected_model)
    for name, gradient in helpers.grads(model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name


def test_clipping_takes_one_norm_over_all_modules(helpers, cfg):
    model = helpers.build(cfg)
    wrap = wrapper(model, clip_grad={'max_norm': 1e-3})
    wrap.zero_grad = lambda **kwargs: None
    hub = MessageHub.get_instance('clip')
    wrap.message_hub = hub
    model.train_step(helpers.segmentation_batch(), wrap)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert hub.get_scalar('train/grad_norm').current() > 1e-3


class _SpyFunction(torch.autograd.Function):
    seen: list[bool] = []

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        _SpyFunction.seen.append(torch.is_autocast_enabled('cpu'))
        return grad


@MODELS.register_module(force=True)
class SpyHead(LocalHead):
    """Notes whether autocast is on, forward and backward."""

    def __init__(self, boundary, init_cfg=None):
        super().__init__(boundary, init_cfg)
        self.conv = nn.Conv2d(boundary.channels, 1, 1)

    def loss(self, feat, inputs, data_samples):
        assert current_step().inputs is inputs
        self.dtype = self.conv(feat).dtype
        return {'loss_spy': _SpyFunction.apply(self.conv(feat)).float().mean()}


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_local_backward_is_outside_autocast(helpers, cfg, dtype):
    """The precision of forward and of backward."""
    cfg['backbone']['local_heads'] = {'type': 'mmlocal.SpyHead'}
    model = helpers.build(cfg)
    wrap = wrapper(model, LocalAmpOptimWrapper, dtype=dtype)
    _SpyFunction.seen.clear()
    log = model.train_step(helpers.segmentation_batch(), wrap)
    assert _SpyFunction.seen == [False, False]
    assert all(
        head.dtype == getattr(torch, dtype)
        for head in model.backbone.local_heads
    )
    assert torch.isfinite(log['loss'])


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_all_losses_share_the_loss_scale(helpers, cfg, dtype):
    """Gradients before unscaling are `scale` times as large."""
    batch, found = helpers.segmentation_batch(), {}
    for scale in (1.0, 64.0):
        model = helpers.build(cfg)
        wrap = wrapper(
            model, LocalAmpOptimWrapper, dtype=dtype, loss_scale=scale
        )
        keep_gradients(wrap)
        model.train_step(deepcopy(batch), wrap)
        found[scale] = helpers.grads(model)
    for name, gradient in found[1.0].items():
        scaled = found[64.0][name] / 64
        assert torch.allclose(
            scaled, gradient, atol=2e-2 * gradient.abs().max().item() + 1e-6
        ), name


def test_amp_is_close_to_float32(helpers, cfg):
    batch, found = helpers.segmentation_batch(), []
    for kind in (LocalOptimWrapper, LocalAmpOptimWrapper):
        model = helpers.build(cfg)
        wrap = wrapper(model, kind)
        keep_gradients(wrap)
        model.train_step(deepcopy(batch), wrap)
        scale = getattr(wrap, 'loss_scaler', None)
        scale = scale.get_scale() if scale else 1
        found.append(
            torch.cat([p.grad.flatten() / scale for p in model.parameters()])
        )
    assert torch.cosine_similarity(*found, dim=0) > 0.98


def test_overflow_in_one_module_skips_the_step(helpers, cfg):
    model = helpers.build(cfg)
    wrap = wrapper(model, LocalAmpOptimWrapper, dtype='float16')
    before = deepcopy(model.state_dict())
    first = next(model.backbone.backbone.layer1.parameters())
    first.register_hook(lambda grad: grad * float('inf'))
    scale = wrap.loss_scaler.get_scale()
    model.train_step(helpers.segmentation_batch(), wrap)
    assert wrap.loss_scaler.get_scale() == scale / 2
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[_saved(name)]), name


def _saved(name):
    return name.replace('backbone.backbone.', 'backbone.')


def test_amp_state_survives_a_checkpoint(helpers, cfg):
    model = helpers.build(cfg)
    wrap = wrapper(model, LocalAmpOptimWrapper, loss_scale=32.0)
    state = wrap.state_dict()
    other = wrapper(model, LocalAmpOptimWrapper)
    other.load_state_dict(state)
    assert other.loss_scaler.get_scale() == 32.0


def test_fsdp_is_refused(helpers, cfg):
    with pytest.raises(ValueError, match='optim_wrapper.use_fsdp'):
        wrapper(helpers.build(cfg), LocalAmpOptimWrapper, use_fsdp=True)


def test_checkpointing_inside_modules(helpers, cfg):
    """`with_cp` gives the gradients of a run without; BN runs once more
    only where a block is recomputed, so GroupNorm is compared here."""
    batch, found = helpers.segmentation_batch(), []
    for with_cp in (False, True):
        cfg['backbone']['backbone']['with_cp'] = with_cp
        model = helpers.build(cfg)
        wrap = wrapper(model)
        keep_gradients(wrap)
        model.train_step(deepcopy(batch), wrap)
        found.append(helpers.grads(model))
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, atol=1e-6), name


def test_step_ends_when_the_forward_fails(helpers, cfg):
    model = helpers.build(cfg)
    batch = helpers.segmentation_batch()
    batch['data_samples'][0].gt_sem_seg.data += 100
    with pytest.raises((ValueError, IndexError)):
        model.train_step(batch, wrapper(model))
    assert current_step() is None
    assert not model._forward_pre_hooks


@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
def test_step_by_module_gives_the_same_weights(helpers, cfg, kind):
    """And only one module has gradients at a time."""
    found, counts = [], []
    for step in ('iteration', 'module'):
        model = helpers.build(cfg)
        optimizer = kind(model.parameters(), lr=0.01, weight_decay=0.1)
        if kind is torch.optim.SGD:
            optimizer.param_groups[0]['momentum'] = 0.9
        wrap = LocalOptimWrapper(optimizer=optimizer, step=step)
        count_gradients(model, counts)
        torch.manual_seed(5)
        for seed in range(3):
            batch = helpers.segmentation_batch(seed=seed)
            model.train_step(batch, wrap)
        found.append(model.state_dict())
        counts.append(0)
    for name, value in found[0].items():
        assert torch.equal(found[1][name], value), name
    most = [max(counts[: counts.index(0)]), max(counts[counts.index(0) :])]
    assert most[1] < 0.8 * most[0]


def count_gradients(model, counts):
    def count(_):
        counts.append(sum(p.grad is not None for p in model.parameters()))

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(count)


@pytest.mark.parametrize(
    'options', [{'accumulative_counts': 2}, {'clip_grad': {'max_norm': 1.0}}]
)
def test_step_by_module_is_refused_where_it_is_not_exact(
    helpers, cfg, options
):
    model = helpers.build(cfg)
    with pytest.raises(ValueError, match=next(iter(options))):
        wrapper(model, LocalOptimWrapper, step='module', **options)
    with pytest.raises(ValueError, match='an overflow in any module'):
        wrapper(model, LocalAmpOptimWrapper, step='module')
    with pytest.raises(ValueError, match="'epoch' is unknown"):
        wrapper(model, LocalOptimWrapper, step='epoch')


def test_step_by_module_refuses_shared_weights(helpers, cfg):
    model = helpers.build(cfg)
    heads = model.backbone.local_heads
    shared = nn.Parameter(torch.ones(()))
    for head in heads:
        head.register_parameter('shared', shared)
        original = head.loss

        def loss(*args, original=original):
            return {k: v * shared for k, v in original(*args).items()}

        head.loss = loss
    wrap = wrapper(model, LocalOptimWrapper, step='module')
    with pytest.raises(RuntimeError, match='gradient from two modules'):
        model.train_step(helpers.segmentation_batch(), wrap)


def test_a_model_on_the_cpu_beside_an_accelerator(helpers, cfg, monkeypatch):
    """What a machine has does not decide, but where the model is."""
    model = helpers.build(cfg)
    wrap = wrapper(model, LocalAmpOptimWrapper, dtype='bfloat16')
    monkeypatch.setattr(torch.accelerator, 'is_available', lambda: True)
    with wrap.optim_context(model):
        assert torch.is_autocast_enabled('cpu')
        assert torch.get_autocast_dtype('cpu') is torch.bfloat16
    assert not torch.is_autocast_enabled('cpu')


@pytest.mark.parametrize('where', ['head', 'backward'])
def test_a_step_that_fails_leaves_no_gradients(helpers, cfg, where):
    """Whoever skips the batch goes on as if it had not been there."""
    model, oracle = helpers.build(cfg), helpers.build(cfg)
    good, bad = (helpers.segmentation_batch(seed=seed) for seed in (0, 1))

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError

    class FailInBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        backward = fail

    if where == 'head':
        model.decode_head.loss = fail
    else:
        convolution = model.backbone.backbone.layer4[0].conv1
        handle = convolution.register_forward_hook(
            lambda *args: FailInBackward.apply(args[-1])
        )
    with pytest.raises(torch.OutOfMemoryError):
        model.train_step(bad, wrapper(model))
    if where == 'head':
        del model.decode_head.loss
    else:
        handle.remove()
    assert all(p.grad is None for p in model.parameters())
    for each in (model, oracle):
        each.train_step(deepcopy(good), wrapper(each))
    for p, q in zip(model.parameters(), oracle.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_step_that_fails_early_keeps_what_was_accumulated(helpers, cfg):
    """A batch that cannot be read has brought no gradients."""
    model = helpers.build(cfg)
    wrap = wrapper(model, accumulative_counts=2)
    model.train_step(helpers.segmentation_batch(), wrap)
    before = helpers.grads(model)
    with pytest.raises(KeyError):
        model.train_step({}, wrap)
    after = helpers.grads(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
