import torch

from mmlocal.registry import MODELS


def test_grid_pooling():
    neck = MODELS.build({'type': 'mmlocal.GridPooling', 'size': 2})
    feat = torch.randn(3, 5, 8, 8)
    vectors, other = neck((feat, feat[:, :2]))
    halves = [slice(0, 4), slice(4, 8)]
    cells = [feat[:, :, y, x].mean((2, 3)) for y in halves for x in halves]
    expected = torch.stack(cells, 2).flatten(1)  # channel by channel
    torch.testing.assert_close(vectors, expected)
    assert other.shape == (3, 8)
