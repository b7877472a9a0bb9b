"""Features as measures read them."""

import pytest
import torch

from mmlocal.analysis.forms import (
    LARGEST,
    as_map,
    flattened,
    pooled,
    sketched,
)


@pytest.mark.parametrize(
    'shape, dims, images',
    [
        ((2, 5, 3, 4), (2, 3), (2, 3, 6, 8)),  # a map
        ((2, 7, 5), 1, (2, 3, 6, 8)),  # tokens
        ((2, 5, 7), 2, (2, 1, 70)),  # a sequence
    ],
)
def test_pooled_is_the_mean_over_positions(shape, dims, images):
    feat = torch.randn(shape)
    found = pooled(feat, torch.zeros(images))
    torch.testing.assert_close(found, feat.mean(dims))


def test_pooled_vectors_stay():
    feat = torch.randn(2, 5)
    assert torch.equal(pooled(feat, torch.zeros(2, 3, 4, 4)), feat)


def test_patches_of_an_image_are_pooled_together():
    feat = torch.randn(2 * 4, 5, 3, 3)
    images = torch.zeros(2, 3, 8, 8)
    expected = torch.stack(
        [feat[:4].mean((0, 2, 3)), feat[4:].mean((0, 2, 3))]
    )
    torch.testing.assert_close(pooled(feat, images), expected)
    assert torch.equal(flattened(feat, images)[1], feat[4:].flatten())


@pytest.mark.parametrize('extra', [0, 1, 2])
def test_tokens_go_back_on_the_grid_of_the_image(extra):
    grid = torch.randn(2, 5, 3, 6)
    tokens = grid.flatten(2).transpose(1, 2)
    tokens = torch.cat([torch.zeros(2, extra, 5), tokens], 1)
    assert torch.equal(as_map(tokens, torch.zeros(2, 3, 48, 96)), grid)


def test_what_is_no_map_is_refused():
    with pytest.raises(ValueError, match='is no map'):
        as_map(torch.zeros(2, 5), torch.zeros(2, 3, 8, 8))


def test_a_sketch_keeps_inner_products_and_is_always_the_same():
    small = torch.randn(3, LARGEST)
    assert sketched(small) is small
    rows = torch.randn(4, 2 * LARGEST) + 0.5
    sketch = sketched(rows)
    assert torch.equal(sketch, sketched(rows))
    exact, found = rows @ rows.T, sketch @ sketch.T
    assert (found / exact - 1).abs().max() < 0.1
