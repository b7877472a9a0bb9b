"""What every head inherits; what each adds has a file of its own."""

import pytest
import torch

from mmlocal.models.local_heads import LocalHead
from mmlocal.models.local_heads.base import build_local_head


class PlainHead(LocalHead):
    def loss(self, feat, inputs, data_samples):
        return {'loss': feat.mean()}


@pytest.mark.parametrize(
    ('index', 'count', 'expected'),
    [(0, 1, 5.0), (0, 4, 5.0), (1, 4, 4.0), (3, 4, 2.0)],
)
def test_pairs_are_interpolated_over_the_boundaries(
    index, count, expected, boundary
):
    place = boundary(index=index, count=count)
    assert place.interpolate((5, 2)) == pytest.approx(expected)
    assert place.interpolate(3) == 3.0


@pytest.mark.parametrize(
    ('stride', 'size'), [(1, (33, 64)), (8, (5, 8)), (32, (2, 2))]
)
def test_feature_sizes_are_rounded_up(stride, size, boundary):
    assert boundary(stride=stride).feature_size((33, 64)) == size


@pytest.mark.parametrize('extra', [0, 1, 2])
def test_tokens_are_put_back_on_their_grid(extra, boundary):
    head = PlainHead(boundary(channels=5, stride=16, layout='tokens'))
    inputs, tokens = torch.zeros(2, 3, 32, 48), torch.rand(2, 6 + extra, 5)
    feat = head.to_map(tokens, inputs)
    assert feat.shape == (2, 5, 2, 3)
    for row in range(2):
        for column in range(3):
            token = tokens[:, extra + 3 * row + column]
            assert torch.equal(feat[:, :, row, column], token)
    with pytest.raises(ValueError, match='9 tokens, which is no 2x3 grid'):
        head.to_map(torch.rand(2, 9, 5), inputs)


def test_maps_are_left_as_they_are(boundary):
    feat = torch.rand(2, 16, 8, 8)
    assert PlainHead(boundary()).to_map(feat, torch.zeros(2, 3, 8, 8)) is feat


def test_there_is_nothing_to_look_at_by_default(boundary):
    assert PlainHead(boundary()).predict(torch.rand(1, 16, 8, 8), None) == {}


def test_a_head_of_another_library_is_named(boundary):
    with pytest.raises(ValueError, match=r'mmlocal.TaskHead.*FCNHead'):
        build_local_head({'type': 'mmseg.FCNHead'}, boundary())
