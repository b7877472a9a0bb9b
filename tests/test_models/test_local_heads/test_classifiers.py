import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmlocal.models.local_heads.classifiers import CIFAR_NETS, build_net
from mmlocal.models.local_heads.layers import BN

STRIDES = {16: 1, 32: 2, 64: 4}
# name -> outputs -> widen -> parameters at 16, 32 and 64 channels.
CIFAR_PARAMETERS = {
    '0c1f': {
        128: {1: (2_176, 4_224, 8_320), 2: (2_176, 4_224, 8_320)},
        10: {1: (170, 330, 650), 2: (170, 330, 650)},
    },
    '0c2f': {
        128: {1: (18_688, 20_736, 24_832), 2: (37_248, 41_344, 49_536)},
        10: {1: (3_466, 5_514, 9_610), 2: (6_922, 11_018, 19_210)},
    },
    '1c1f': {
        128: {1: (8_896, 26_880, 45_312), 2: (17_664, 53_632, 90_496)},
        10: {1: (5_002, 19_210, 37_642), 2: (9_994, 38_410, 75_274)},
    },
    '1c2f': {
        128: {1: (25_408, 43_392, 61_824), 2: (58_880, 103_040, 139_904)},
        10: {1: (10_186, 28_170, 46_602), 2: (28_554, 72_714, 109_578)},
    },
    '1c3f': {
        128: {1: (41_920, 59_904, 78_336), 2: (124_672, 168_832, 205_696)},
        10: {1: (26_698, 44_682, 63_114), 2: (94_346, 138_506, 175_370)},
    },
    '2c2f': {
        128: {1: (34_688, 80_384, 98_816), 2: (95_872, 250_752, 287_616)},
        10: {1: (19_466, 65_162, 83_594), 2: (65_546, 220_426, 257_290)},
    },
}


@pytest.mark.parametrize('name', CIFAR_NETS)
@pytest.mark.parametrize('outputs', [128, 10])
@pytest.mark.parametrize('widen', [1, 2])
def test_cifar_parameters(name, outputs, widen, boundary, num_params):
    counts = tuple(
        num_params(build_net(name, boundary(c, s), outputs, BN, widen))
        for c, s in STRIDES.items()
    )
    assert counts == CIFAR_PARAMETERS[name][outputs][widen]


@pytest.mark.parametrize(('channels', 'stride'), STRIDES.items())
def test_cifar_downsamples_before_the_last_stage(channels, stride, boundary):
    net = build_net('2c2f', boundary(channels, stride), 10, BN)
    first, second = (m for m in net if isinstance(m, nn.Conv2d))
    assert first.stride == ((2, 2) if stride < 4 else (1, 1))
    assert second.stride == (1, 1)
    assert first.bias is None


@pytest.mark.parametrize(
    ('name', 'channels', 'outputs', 'expected'),
    [
        ('imagenet', 512, 1000, 4_643_560),
        ('segmentation', 1024, 19, 4_729_875),
        ('segmentation_lean', 1024, 19, 857_875),
        ('linear', 512, 1000, 513_000),
    ],
)
def test_parameters(name, channels, outputs, expected, boundary, num_params):
    net = build_net(name, boundary(channels, 8), outputs, BN)
    assert num_params(net) == expected


def test_imagenet_shapes_and_macs(boundary):
    with torch.device('meta'):
        net = build_net('imagenet', boundary(512, 8), 1000, BN)
        with FlopCounterMode(display=False) as counter:
            logits = net(torch.empty(2, 512, 28, 28))
    assert logits.shape == (2, 1000)
    macs = counter.get_total_flops() / 2 / 2
    assert macs == pytest.approx(220.41e6, rel=1e-4)


@pytest.mark.parametrize('name', ['linear', *CIFAR_NETS, 'imagenet'])
def test_classifies_any_feature(name, boundary):
    net = build_net(name, boundary(24, 2), 5, BN)
    assert net(torch.randn(3, 24, 9, 7)).shape == (3, 5)


def test_lean_segmentation_costs_a_fifth(boundary):
    """Of the published net, in multiply-accumulates a position."""
    costs = []
    for name in 'segmentation', 'segmentation_lean':
        net = build_net(name, boundary(1024, 8), 19, BN).to('meta')
        with FlopCounterMode(display=False) as counter:
            out = net(torch.empty(1, 1024, 4, 4, device='meta'))
        assert out.shape == (1, 19, 4, 4)
        costs.append(counter.get_total_flops() / 2 / 16)
    assert costs[1] == 1024 * 256 + 9 * 256**2 + 256 * 19
    assert costs[1] < costs[0] / 5


def test_segmentation_layers(boundary):
    net = build_net('segmentation', boundary(16, 8), 5, BN)
    assert net(torch.randn(2, 16, 6, 7)).shape == (2, 5, 6, 7)
    assert [type(layer).__name__ for layer in net] == [
        'Conv2d',
        'BatchNorm2d',
        'ReLU',
        'Dropout2d',
        'Conv2d',
    ]
    assert net[0].bias is not None
    assert net[3].p == 0.1


@pytest.mark.parametrize('name', ['1c2f', 'imagenet', 'segmentation'])
def test_norm_is_configurable(name, boundary):
    net = build_net(name, boundary(16, 2), 4, {'type': 'SyncBN'})
    assert any(isinstance(m, nn.SyncBatchNorm) for m in net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_linear_is_the_mean_over_positions(boundary):
    net = build_net('linear', boundary(6, 4), 3, BN)
    tokens = torch.randn(2, 20, 6)
    grid = tokens.transpose(1, 2).reshape(2, 6, 4, 5)
    torch.testing.assert_close(net(tokens), net(grid))
    torch.testing.assert_close(net(tokens), net.fc(tokens).mean(1))
    sequence = build_net('linear', boundary(6, 4, layout='sequence'), 3, BN)
    sequence.load_state_dict(net.state_dict())
    torch.testing.assert_close(sequence(tokens.mT), net(tokens))
