import torch
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import FCNHead

from mmlocal.models.boundary import Boundary
from mmlocal.models.joining import join, joined_boundary

SIZE = (32, 48)


def boundary(channels, stride, layout='map', **kwargs):
    side = 32 // stride
    return Boundary('b', channels, stride, layout, side=side, **kwargs)


def test_maps_are_joined_as_mmseg_does():
    parts = [boundary(c, s) for c, s in ((6, 8), (4, 4), (8, 16))]
    feats = [torch.randn(2, p.channels, *p.feature_size(SIZE)) for p in parts]
    init_default_scope('mmseg')
    head = FCNHead(
        in_channels=[4, 6, 8],
        in_index=[1, 0, 2],
        input_transform='resize_concat',
        channels=4,
        num_classes=2,
        align_corners=False,
    )
    found = join(feats, parts, SIZE)
    # There the first one gives the size, here the largest.
    order = [4, 6, 8]
    expected = head._transform_inputs(feats).split(order, 1)
    assert torch.equal(
        found, torch.cat([expected[1], expected[0], expected[2]], 1)
    )
    whole = joined_boundary(parts)
    assert (whole.channels, whole.stride, whole.layout) == (18, 4, 'map')
    assert whole.feature_size(SIZE) == found.shape[2:]
    assert whole.parts == tuple(parts)


def test_tokens_and_vectors_are_maps_then():
    parts = [
        boundary(4, 8),
        boundary(3, 8, 'tokens'),
        Boundary('b', 2, 32, 'vector'),
    ]
    tokens = torch.randn(2, 25, 3)
    feats = [torch.randn(2, 4, 4, 6), tokens, torch.randn(2, 2)]
    found = join(feats, parts, SIZE)
    assert found.shape == (2, 9, 4, 6)
    assert torch.equal(found[:, :4], feats[0])
    assert torch.equal(found[:, 4:7].flatten(2), tokens[:, 1:].mT)
    assert torch.equal(found[:, 7:, 0, 0], feats[2])
    assert torch.equal(found[:, 7:, 3, 5], feats[2])


def test_sequences():
    parts = [boundary(2, s, 'sequence') for s in (2, 4)]
    feats = [torch.randn(1, 2, 16), torch.ones(1, 2, 8)]
    found = join(feats, parts, (32,))
    assert found.shape == (1, 4, 16) and (found[:, 2:] == 1).all()
    assert joined_boundary(parts).layout == 'sequence'


def test_what_cannot_be_joined():
    assert (
        joined_boundary([boundary(2, 4), boundary(2, 4, 'sequence')]) is None
    )
    patches = boundary(2, 4, 'tokens', patches=4)
    assert joined_boundary([boundary(2, 4), patches]) is None
    single = boundary(2, 4)
    assert joined_boundary([single]) is single
