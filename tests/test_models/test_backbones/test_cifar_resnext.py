"""Both nets against published counts and the stages' equations."""

import pytest
import torch
from torch import nn

from mmlocal.models.backbones.cifar_resnext import CIFARResNeXt
from mmlocal.models.backbones.cifar_wide_resnet import CIFARWideResNet
from mmlocal.models.cut_points import CutPoints
from mmlocal.partition.equal_depth import EqualDepth

NETS = {CIFARResNeXt: 512, CIFARWideResNet: 256}


@pytest.mark.parametrize(
    ('kind', 'published'), [(CIFARResNeXt, 1.112), (CIFARWideResNet, 5.872)]
)
def test_parameters_with_a_hundred_classes(kind, published):
    with torch.device('meta'):
        net, head = kind(), nn.Linear(NETS[kind], 100)
    params = [*net.parameters(), *head.parameters()]
    total = sum(p.numel() for p in params)
    assert round(total / 1e6, 3) == published


@pytest.mark.parametrize(
    ('kind', 'shapes'),
    [
        (
            CIFARResNeXt,
            [(32, 32, 32), (128, 32, 32), (256, 16, 16), (512, 8, 8)],
        ),
        (
            CIFARWideResNet,
            [
                (16, 32, 32),
                (64, 32, 32),
                (128, 16, 16),
                (256, 8, 8),
                (256, 8, 8),
            ],
        ),
    ],
)
def test_maps(kind, shapes):
    with torch.device('meta'):
        net = kind(out_indices=range(len(shapes)))
        maps = net(torch.empty(2, 3, 32, 32))
        (last,) = kind()(torch.empty(2, 3, 32, 32))
    assert [tuple(feat.shape[1:]) for feat in maps] == shapes
    assert last.shape == maps[-1].shape


def test_grouped_convolutions_of_resnext():
    with torch.device('meta'):
        net = CIFARResNeXt()
    grouped = [m for m in net.modules() if getattr(m, 'groups', 1) > 1]
    assert {m.groups for m in grouped} == {16}
    widths = [m.out_channels for m in grouped]
    assert widths == [32] * 5 + [64] * 5 + [128] * 5
    strides = [m.stride[0] for m in grouped]
    assert [i for i, stride in enumerate(strides) if stride == 2] == [5, 10]


def test_resnext_is_after_relu_and_wide_resnet_before():
    x = torch.randn(2, 3, 8, 8)
    small = CIFARResNeXt(1, 2, base_channels=16, out_indices=range(4))
    assert all(feat.min() == 0 for feat in small(x))
    wide = CIFARWideResNet(10, 1, out_indices=range(5)).eval()
    *raw, last = wide(x)
    assert all(feat.min() < 0 for feat in raw)
    torch.testing.assert_close(last, wide.bn1(raw[-1]).relu())


def test_wide_block():
    """The shortcut takes the activated input where the width changes."""
    block = CIFARWideResNet(16, 2).eval().layer1
    x = torch.randn(2, 16, 6, 6)
    first, second = block
    out = first.bn1(x).relu()
    expected = first.downsample(out) + first.conv2(
        first.bn2(first.conv1(out)).relu()
    )
    torch.testing.assert_close(first(x), expected)
    out = second.conv1(second.bn1(expected).relu())
    expected = expected + second.conv2(second.bn2(out).relu())
    torch.testing.assert_close(second(expected.clone()), second(expected))
    torch.testing.assert_close(block(x), expected)
    assert second.downsample is None


@pytest.mark.parametrize('kind', NETS)
def test_cut_into_four(kind):
    """From block to block, so that no module is deeper than another by more
    than a block."""
    points = CutPoints(kind(), (3, 32, 32))
    cuts = points.check(EqualDepth(4)(points))
    places = [0, *(cut.depth for cut in cuts), points.depth]
    depths = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert len(depths) == 4
    assert max(depths) - min(depths) <= 3


@pytest.mark.parametrize('kind', ['CIFARResNeXt', 'CIFARWideResNet'])
def test_trains_a_step_in_modules(kind, helpers):
    small = {
        'CIFARResNeXt': dict(num_blocks=1, groups=2, base_channels=16),
        'CIFARWideResNet': dict(depth=10, widen_factor=1),
    }
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': f'mmlocal.{kind}', **small[kind]},
        'boundaries': {'type': 'mmlocal.EqualDepth', 'num_modules': 2},
        'local_heads': {'type': 'mmlocal.DGLHead', 'num_classes': 10},
        'input_shape': (3, 32, 32),
    }
    channels = {'CIFARResNeXt': 256, 'CIFARWideResNet': 64}[kind]
    model = helpers.build(helpers.classifier_cfg(backbone, channels))
    from mmlocal.engine.optim import LocalOptimWrapper

    wrapper = LocalOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = {k: v.clone() for k, v in model.named_parameters()}
    model.train_step(helpers.classification_batch(), wrapper)
    same = [k for k, v in model.named_parameters() if v.equal(before[k])]
    assert not same


def test_bad_settings():
    with pytest.raises(ValueError, match='depth=27 is not 6n'):
        CIFARWideResNet(27)
    with pytest.raises(ValueError, match=r'out_indices=\(5,\).*0, 1, 2, 3'):
        CIFARResNeXt(out_indices=(5,))
    with pytest.raises(ValueError, match='write 8 or more'):
        CIFARResNeXt(base_channels=8)
