"""Patches in the batch axis, against slices."""

import pytest
import torch

from mmlocal.models.patches import PatchGrid, on_grid
from mmlocal.registry import MODELS


def test_patches_follow_one_another_row_by_row():
    images = torch.randn(2, 3, 20, 24)
    patches = PatchGrid(patch_size=8, stride=4)(images)
    expected = [
        image[:, y : y + 8, x : x + 8]
        for image in images
        for y in range(0, 13, 4)
        for x in range(0, 17, 4)
    ]
    assert torch.equal(patches, torch.stack(expected))


def test_back_on_the_grid():
    """Each cell has the mean over its own patch; patches may overlap."""
    grid = PatchGrid(patch_size=8, stride=4)
    images = torch.randn(2, 3, 20, 24)
    back = grid.to_grid(grid(images), 20, 24)
    assert back.shape == (2, 3, 4, 5)
    for y in range(4):
        for x in range(5):
            cell = images[:, :, 4 * y : 4 * y + 8, 4 * x : 4 * x + 8]
            torch.testing.assert_close(back[..., y, x], cell.mean((2, 3)))


@pytest.mark.parametrize(
    ('size', 'grid'), [(64, 7), (32, 3), (16, 1), (71, 7), (72, 8)]
)
def test_number_of_patches(size, grid):
    """The published crop of 64 has 49; what is left over is left out."""
    images = torch.zeros(1, 1, size, size)
    assert PatchGrid().grid(size, size) == (grid, grid)
    assert PatchGrid()(images).shape == (grid * grid, 1, 16, 16)


def test_tokens_and_vectors():
    tokens = torch.randn(2 * 6, 5, 4)
    means = tokens.mean(1)
    for feat in tokens, means:
        found = on_grid(feat, 2, 3)
        assert found.shape == (2, 4, 2, 3)
        assert torch.equal(found[1, :, 0, 2], means[6 + 2])


def test_pooling_is_the_mean_over_patches():
    neck = MODELS.build({'type': 'mmlocal.PatchPooling', 'grid': (2, 3)})
    feat = torch.randn(4 * 6, 5, 2, 2)
    vectors, other = neck((feat, feat[:, :2]))
    for index in range(4):
        mine = feat[6 * index : 6 * index + 6]
        torch.testing.assert_close(vectors[index], mine.mean((0, 2, 3)))
    torch.testing.assert_close(other, vectors[:, :2])
    square = MODELS.build({'type': 'mmlocal.PatchPooling', 'grid': 2})
    torch.testing.assert_close(square((feat,))[0][0], feat[:4].mean((0, 2, 3)))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match='stride=0 must be a whole number'):
        PatchGrid(stride=0)
    with pytest.raises(ValueError, match='patch_size=1.5 must be'):
        PatchGrid(patch_size=1.5)
    with pytest.raises(ValueError, match='8x40 has no patch of 16 pixels'):
        PatchGrid()(torch.zeros(1, 1, 8, 40))
    with pytest.raises(ValueError, match='7x7 = 49 patches'):
        on_grid(torch.zeros(50, 3, 2, 2), 7, 7)
