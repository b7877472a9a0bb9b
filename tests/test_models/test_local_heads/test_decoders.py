import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmlocal.models.local_heads.decoders import (
    CIFARDecoder,
    ProgressiveDecoder,
)
from mmlocal.models.local_heads.layers import BN


@pytest.mark.parametrize(
    ('channels', 'widen', 'expected'),
    [
        (16, 1, 2_091),
        (32, 1, 3_819),
        (64, 1, 7_275),
        (16, 2, 4_179),
        (32, 2, 7_635),
        (64, 2, 14_547),
    ],
)
def test_cifar_parameters(channels, widen, expected, boundary, num_params):
    decoder = CIFARDecoder(boundary(channels), BN, widen)
    assert num_params(decoder) == expected


def test_cifar_resizes_any_size_at_once(boundary):
    decoder = CIFARDecoder(boundary(4, stride=6), BN).eval()
    feat = torch.randn(2, 4, 3, 5)
    resized = F.interpolate(
        feat, (17, 20), mode='bilinear', align_corners=True
    )
    expected = decoder.decoder(resized)
    assert torch.equal(decoder(feat, (17, 20)), expected)
    assert expected.shape == (2, 3, 17, 20)


@pytest.mark.parametrize(
    ('channels', 'expected'), [(512, 106_699), (1024, 172_235)]
)
def test_progressive_parameters(channels, expected, boundary, num_params):
    decoder = ProgressiveDecoder(boundary(channels, stride=8), BN)
    assert num_params(decoder) == expected


@pytest.mark.parametrize(
    ('stride', 'widths'),
    [
        (1, [128]),
        (2, [128]),
        (4, [128, 12]),
        (8, [128, 32, 12]),
        (16, [128, 64, 32, 12]),
        (32, [128, 128, 64, 32, 12]),
        (64, [128, 128, 128, 64, 32, 12]),
    ],
)
@pytest.mark.parametrize('size', [(64, 192), (65, 129), (97, 50)])
def test_progressive_reaches_the_image(stride, widths, size, boundary):
    with torch.device('meta'):
        decoder = ProgressiveDecoder(boundary(24, stride=stride), BN)
        feat = torch.empty(2, 24, *(math.ceil(side / stride) for side in size))
        image = decoder(feat, size)
    assert image.shape == (2, 3, *size)
    assert [block[0].out_channels for block in decoder.blocks] == widths
    assert decoder.blocks[0][0].kernel_size == (1, 1)


@pytest.mark.parametrize(
    ('feat', 'image', 'sides'),
    [
        ((3, 512, 28, 28), (224, 224), [28, 56, 112, 224]),
        ((3, 1024, 64, 128), (512, 1024), [64, 128, 256, 512]),
        ((3, 1024, 97, 97), (769, 769), [97, 193, 385, 769]),
    ],
)
def test_progressive_resolutions(feat, image, sides, boundary):
    seen = []
    with torch.device('meta'):
        decoder = ProgressiveDecoder(boundary(feat[1], stride=8), BN)
        for layer in decoder.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(
                    lambda layer, args, out: seen.append(out.shape[2])
                )
        assert decoder(torch.empty(feat), image).shape == (3, 3, *image)
    assert seen == sides


def test_progressive_equals_published_layers(boundary):
    """Convolutions with an exact doubling, corners aligned, in between."""
    decoder = ProgressiveDecoder(boundary(6, stride=8), BN).eval()
    expected = feat = torch.randn(2, 6, 3, 4)
    for block in decoder.blocks:
        expected = F.interpolate(
            block(expected),
            scale_factor=2,
            mode='bilinear',
            align_corners=True,
        )
    expected = decoder.to_image(expected)
    assert torch.equal(decoder(feat, (24, 32)), expected)


def test_progressive_macs(boundary):
    with torch.device('meta'):
        decoder = ProgressiveDecoder(boundary(512, stride=8), BN)
        with FlopCounterMode(display=False) as counter:
            decoder(torch.empty(2, 512, 28, 28), (224, 224))
    macs = counter.get_total_flops() / 2 / 2
    assert macs == pytest.approx(226.59e6, rel=1e-4)


@pytest.mark.parametrize(
    ('stride', 'sides'),
    [
        (3, [112, 224]),
        (7, [56, 112, 224]),
        (12, [28, 56, 112, 224]),
        (14, [28, 56, 112, 224]),
    ],
)
def test_strides_that_are_no_power_of_two(stride, sides, boundary):
    """The first doubling goes to where that of the nearest power does."""
    side = -(-224 // stride)
    decoder = ProgressiveDecoder(boundary(16, stride=stride, side=side), BN)
    found = []
    for block in [*decoder.blocks[1:], decoder.to_image]:
        block.register_forward_pre_hook(
            lambda module, args: found.append(args[0].shape[-1])
        )
    image = decoder(torch.randn(2, 16, side, side), (224, 224))
    assert image.shape == (2, 3, 224, 224)
    assert found == sides


def test_a_single_cell_has_a_power_of_two(boundary):
    """Behind a global pooling there is no stride."""
    with pytest.raises(
        ValueError, match="layer2.1.*local_heads.preset='cifar'"
    ):
        ProgressiveDecoder(boundary(16, stride=224, side=1), BN)
    ProgressiveDecoder(boundary(16, stride=32, side=1), BN)


@pytest.mark.parametrize('side', [10, 12, 13, 14])
def test_cells_more_or_less(side, boundary):
    """A backbone that rounds down, as VGG at 100 px, pads, or does not."""
    decoder = ProgressiveDecoder(boundary(16, stride=8), BN)
    feat = torch.randn(2, 16, side, 13)
    assert decoder(feat, (100, 100)).shape == (2, 3, 100, 100)


def test_size_out_of_reach(boundary):
    decoder = ProgressiveDecoder(boundary(16, stride=8), BN)
    feat = torch.randn(2, 16, 13, 9)
    with pytest.raises(
        ValueError, match='crop_size.*RandomCrop.*size_divisor'
    ) as error:
        decoder(feat, (100, 100))
    assert '13x9' in str(error.value)
    assert '13x13' in str(error.value)
    assert 'multiple of 8' in str(error.value)
