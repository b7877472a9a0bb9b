import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmlocal.models.local_heads import DGLHead, InfoProHead, TaskHead
from mmlocal.registry import MODELS
from mmlocal.step import LocalStep, activate

STAGES = [(16, 32, 1), (32, 16, 2), (64, 8, 4)]


def step_for(inputs):
    """A step whose model has no preprocessor: inputs are 0..255."""
    return LocalStep(backward=torch.Tensor.backward, inputs=inputs)


@pytest.mark.parametrize(
    ('count', 'recon', 'task', 'expected'),
    [
        (3, (6, 1), (0, 2), {0: (6, 0), 1: (3.5, 1), 2: (1, 2)}),
        (
            15,
            (5, 0.2),
            (0.05, 0.5),
            {1: (4.657143, 0.082143), 7: (2.6, 0.275), 14: (0.2, 0.5)},
        ),
        (1, (5, 1), (0.5, 2), {0: (5, 0.5)}),
        (2, (5, 5), (0, 0.1), {0: (5, 0), 1: (5, 0.1)}),
        (3, 2, 0.5, {0: (2, 0.5), 2: (2, 0.5)}),
    ],
)
def test_published_weights(count, recon, task, expected, boundary):
    for index, weights in expected.items():
        head = InfoProHead(
            boundary(index=index, count=count),
            num_classes=10,
            recon_weight=recon,
            task_weight=task,
        )
        got = (head.recon_weight, head.task_weight)
        assert got == pytest.approx(weights, abs=5e-7)


@pytest.mark.parametrize(
    ('cuts', 'total'),
    [
        # How many cuts at 16, 32 and 64 channels.
        ((0, 1, 0), 47_211),  # R32 and R110, K=2
        ((1, 1, 0), 74_710),  # K=3
        ((1, 1, 1), 143_809),  # K=4
        ((6, 5, 4), 677_445),  # K=16
        ((3, 2, 2), 315_117),  # R32, K=8
        ((2, 3, 2), 334_829),  # R110, K=8
        ((1, 0, 0), 27_499),  # R110 balanced, K=2
        ((2, 1, 0), 102_209),  # R110 balanced, K=4
    ],
)
def test_cifar_parameters(cuts, total, boundary, num_params):
    counts = [
        num_params(InfoProHead(boundary(c, s), task='contrast'))
        for c, _, s in STAGES
    ]
    assert sum(n * c for n, c in zip(cuts, counts, strict=True)) == total


@pytest.mark.parametrize(
    ('preset', 'channels', 'classes', 'decoder', 'task'),
    [
        ('imagenet', 512, 1000, 106_699, 4_643_560),
        ('segmentation', 1024, 19, 172_235, 4_729_875),
    ],
)
def test_large_parameters(
    preset, channels, classes, decoder, task, boundary, num_params
):
    with torch.device('meta'):
        head = InfoProHead(
            boundary(channels, 8), preset=preset, num_classes=classes
        )
    assert num_params(head.decoder) == decoder
    assert num_params(head.task) == task
    assert num_params(head) == decoder + task


@pytest.mark.parametrize(
    ('stage', 'expected'),
    [
        (STAGES[0], 3_301_376),
        (STAGES[1], 5_074_944),
        (STAGES[2], 9_793_536),
    ],
)
def test_cifar_macs(stage, expected, boundary):
    channels, side, stride = stage
    with torch.device('meta'):
        head = InfoProHead(boundary(channels, stride), task='contrast')
        feat = torch.empty(2, channels, side, side)
        pixels = torch.empty(2, 3, 32, 32)
        with FlopCounterMode(display=False) as counter:
            head.reconstruction_loss(feat, pixels)
            head.task(feat, pixels)
    assert counter.get_total_flops() / 2 / 2 == expected


@pytest.mark.parametrize(
    ('stage', 'expected', 'grad'),
    [
        (STAGES[0], 0.770598147532, 2.0704804668e-03),
        (STAGES[1], 0.763947681556, 2.4484632567e-03),
        (STAGES[2], 0.778355303386, 4.5354894208e-03),
    ],
)
def test_published_reconstruction(stage, expected, grad, boundary, vectors):
    """The numbers are those of tests/test_models/vectors.py."""
    channels, side, stride = stage
    head = InfoProHead(boundary(channels, stride), num_classes=10)
    feat = vectors.features(8, channels, side, side)
    images = vectors.pixels(8, 3, 32, 32)
    loss = vectors.fill(head).reconstruction_loss(feat, images)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert feat.grad.norm().item() == pytest.approx(grad, rel=1e-6)
    generated = vectors.reconstruction_loss(channels, side)[0].item()
    assert generated == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('preset', ['cifar', 'imagenet', 'segmentation'])
@pytest.mark.parametrize('channels', [3, 1])
def test_zero_logits_cost_log_2(preset, channels, boundary):
    place = boundary(16, 4, image_channels=channels)
    head = InfoProHead(place, preset=preset, num_classes=4)
    last = [m for m in head.decoder.modules() if hasattr(m, 'bias')][-1]
    last.weight.data.zero_()
    last.bias.data.zero_()
    loss = head.reconstruction_loss(
        torch.randn(2, 16, 8, 8), torch.rand(2, channels, 32, 32)
    )
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize('task', ['softmax', 'contrast'])
def test_losses_are_weighted(task, boundary, class_samples):
    head = InfoProHead(
        boundary(16, 1),
        task=task,
        num_classes=4,
        recon_weight=5,
        task_weight=0.25,
    ).eval()
    feat = torch.randn(8, 16, 32, 32)
    inputs = torch.randint(0, 256, (8, 3, 32, 32)).float()
    with activate(step_for(inputs)):
        losses = head.loss(feat, inputs, class_samples())
    recon = F.binary_cross_entropy(
        head.predict(feat, inputs)['reconstruction'], inputs / 255
    )
    alone = head.task.loss(feat, inputs, class_samples())
    torch.testing.assert_close(losses['loss_recon'], 5 * recon)
    torch.testing.assert_close(losses['loss_task'], 0.25 * alone['loss_task'])
    assert ('acc' in losses) == (task == 'softmax')
    if task == 'softmax':
        assert losses['acc'] == alone['acc']


@pytest.mark.parametrize(
    ('weight', 'branch', 'keys'),
    [
        ('recon_weight', 'decoder', ['loss_task', 'acc']),
        ('task_weight', 'task', ['loss_recon']),
    ],
)
def test_a_branch_of_weight_zero_is_not_run(
    weight, branch, keys, boundary, class_samples, num_params
):
    full = InfoProHead(boundary(16), num_classes=4)
    head = InfoProHead(boundary(16), num_classes=4, **{weight: (0, 0)})
    assert num_params(head) == num_params(full)
    inputs = 255 * torch.rand(8, 3, 32, 32)
    feat = torch.randn(8, 16, 32, 32, requires_grad=True)
    with activate(step_for(inputs)):
        losses = head.loss(feat, inputs, class_samples())
    assert list(losses) == keys
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    idle = head.get_submodule(branch)
    assert all(p.grad is None for p in idle.parameters())
    for name, buffer in idle.named_buffers():
        if name.endswith('num_batches_tracked'):
            assert buffer == 0
    used = {'decoder', 'task'} - {branch}
    for p in head.get_submodule(used.pop()).parameters():
        assert p.grad is not None
    predicted = head.predict(feat, inputs)
    assert ('reconstruction' in predicted) == (branch != 'decoder')
    assert ('logits' in predicted) == (branch != 'task')


def test_segmentation(boundary, pixel_samples):
    head = InfoProHead(boundary(16, 8), preset='segmentation', num_classes=3)
    inputs = 255 * torch.rand(2, 3, 33, 41)  # no multiple of 8, rounded up
    labels = torch.randint(0, 3, (2, 33, 41))
    feat = torch.randn(2, 16, 5, 6, requires_grad=True)
    with activate(step_for(inputs)):
        losses = head.loss(feat, inputs, pixel_samples(labels))
    sum(losses[key] for key in ('loss_recon', 'loss_task')).backward()
    assert feat.grad.abs().sum() > 0
    predicted = head.predict(feat, inputs)
    assert predicted['reconstruction'].shape == (2, 3, 33, 41)
    assert predicted['logits'].shape == (2, 3, 5, 6)
    with (
        activate(step_for(inputs)),
        pytest.raises(ValueError, match='crop_size'),
    ):
        head.loss(feat[..., :3, :], inputs, pixel_samples(labels))


def test_tokens(boundary, class_samples):
    head = InfoProHead(
        boundary(16, 8, layout='tokens'), preset='imagenet', num_classes=4
    ).eval()
    inputs = 255 * torch.rand(8, 3, 32, 48)
    tokens = torch.randn(8, 25, 16)
    grid = tokens[:, 1:].transpose(1, 2).reshape(8, 16, 4, 6)
    with activate(step_for(inputs)):
        losses = head.loss(tokens, inputs, class_samples())
    assert set(losses) == {'loss_recon', 'loss_task', 'acc'}
    torch.testing.assert_close(
        head.predict(tokens, inputs)['reconstruction'],
        head.decoder(grid, (32, 48)).sigmoid(),
    )


@pytest.mark.parametrize(
    'task',
    [
        {'type': 'mmlocal.DGLHead', 'net': 'mlp', 'num_classes': 4},
        {
            'type': 'mmlocal.TaskHead',
            'head': {'type': 'mmpretrain.LinearClsHead', 'num_classes': 4},
            'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
        },
    ],
)
def test_task_from_a_config(task, boundary, class_samples):
    head = MODELS.build(
        {'type': 'mmlocal.InfoProHead', 'task': task, 'task_weight': 3},
        default_args={'boundary': boundary(16)},
    )
    kind = {'mmlocal.DGLHead': DGLHead, 'mmlocal.TaskHead': TaskHead}
    assert isinstance(head.task, kind[task['type']])
    inputs, feat = 255 * torch.rand(8, 3, 32, 32), torch.randn(8, 16, 32, 32)
    with activate(step_for(inputs)):
        losses = head.loss(feat, inputs, class_samples())
    alone = head.task.loss(feat, inputs, class_samples())
    for key, value in alone.items():
        scale = 3 if 'loss' in key else 1
        torch.testing.assert_close(losses[key], scale * value)


def test_task_net_can_be_chosen(boundary):
    head = InfoProHead(boundary(16), aux_net='2c2f', widen=2, num_classes=10)
    assert sum(p.numel() for p in head.task.parameters()) == 65_546


def test_loss_in_float32(boundary, class_samples):
    """Under autocast, and with weights of low precision."""
    head = InfoProHead(boundary(16), num_classes=4)
    inputs, feat = 255 * torch.rand(8, 3, 32, 32), torch.randn(8, 16, 32, 32)
    with activate(step_for(inputs)):
        with torch.autocast('cpu', torch.bfloat16):
            losses = head.loss(feat, inputs, class_samples())
        assert losses['loss_recon'].dtype == torch.float32
        losses = head.bfloat16().loss(feat.bfloat16(), inputs, class_samples())
    assert losses['loss_recon'].dtype == torch.float32


@pytest.mark.parametrize('preset', ['cifar', 'imagenet', 'segmentation'])
def test_initialization(preset, boundary):
    head = InfoProHead(boundary(64, 4), preset=preset, num_classes=10)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head.init_weights()
    for key, value in head.state_dict().items():
        if value.ndim == 4 and preset != 'segmentation':
            assert not torch.equal(value, before[key])
            if value.numel() > 2_000:
                fan_out = value.shape[0] * value[0, 0].numel()
                std = (2 / fan_out) ** 0.5
                assert value.std().item() == pytest.approx(std, rel=0.1)
        else:
            assert torch.equal(value, before[key])
    again = {k: v.clone() for k, v in head.state_dict().items()}
    head.init_weights()
    for key, value in head.state_dict().items():
        assert torch.equal(value, again[key])


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'preset': 'svhn'}, "'cifar', 'imagenet', 'segmentation'"),
        ({'task': 'mse'}, "'softmax' or 'contrast'"),
        ({'num_classes': None}, 'write num_classes='),
        ({'recon_weight': -1}, 'recon_weight=-1'),
        ({'task_weight': (1, -0.5)}, r'task_weight=\(1, -0.5\)'),
        ({'task_weight': (1, 2, 3)}, 'a pair'),
        ({'recon_weight': 0, 'task_weight': (0, 1)}, "'layer2.1'"),
        ({'preset': 'segmentation', 'task': 'contrast'}, 'aux_net'),
        ({'preset': 'imagenet', 'widen': 2}, 'widen=2'),
        ({'task': 'contrast', 'feature_dim': 0}, 'feature_dim=0'),
    ],
)
def test_bad_config(kwargs, message, boundary):
    kwargs = {'num_classes': 4, **kwargs}
    with pytest.raises(ValueError, match=message):
        InfoProHead(boundary(16, 8), **kwargs)


def test_outside_of_a_step(boundary, class_samples):
    head = InfoProHead(boundary(16), num_classes=4)
    inputs = 255 * torch.rand(8, 3, 32, 32)
    with pytest.raises(RuntimeError, match='reconstruction_loss'):
        head.loss(torch.randn(8, 16, 32, 32), inputs, class_samples())


def test_normalized_images_without_a_preprocessor_are_no_targets(boundary):
    """They would be 0 to 0.008, silently."""
    head = InfoProHead(boundary(16), num_classes=10, task_weight=0)
    feat, inputs = torch.randn(2, 16, 8, 8), torch.randn(2, 3, 8, 8)
    with (
        activate(step_for(inputs)),
        pytest.raises(ValueError, match='model.data_preprocessor has no mean'),
    ):
        head.loss(feat, inputs, None)


def test_without_task_there_need_be_no_annotations(boundary):
    head = InfoProHead(boundary(16), num_classes=10, task_weight=0)
    inputs = torch.randint(0, 256, (2, 3, 8, 8)).float()
    with activate(step_for(inputs)):
        losses = head.loss(torch.randn(2, 16, 8, 8), inputs, None)
    assert losses.keys() == {'loss_recon'}
