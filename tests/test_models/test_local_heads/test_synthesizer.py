import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.local_heads.synthesizer import SynthesizerBody


@pytest.mark.parametrize('context', [False, True])
def test_equation(context):
    body = SynthesizerBody(6, 8, num_classes=4 if context else None)
    torch.nn.init.normal_(body.conv3.weight)
    feat, labels = torch.randn(5, 6, 7, 7), torch.tensor([0, 3, 1, 1, 2])
    onehot = F.one_hot(labels, 4).float() if context else None
    x = F.conv2d(feat, body.conv1.weight, body.conv1.bias, padding=2)
    if context:
        # Row y of U^T, at each place, before the norm.
        x += (body.context.weight.T[labels] + body.context.bias)[
            :, :, None, None
        ]
    for conv in body.conv2, body.conv3:
        mean = x.mean((0, 2, 3), keepdim=True)
        var = x.var((0, 2, 3), unbiased=False, keepdim=True)
        x = F.relu((x - mean) / (var + 1e-5).sqrt())
        x = F.conv2d(x, conv.weight, conv.bias, padding=2)
    torch.testing.assert_close(body(feat, onehot), x, rtol=1e-4, atol=1e-4)


def test_size_of_the_published_one(num_params):
    convs = 3 * (128 * 128 * 25 + 128)
    norms = 2 * 2 * 128
    assert num_params(SynthesizerBody(128)) == convs + norms
    extra = num_params(SynthesizerBody(128, num_classes=10)) - convs - norms
    assert extra == 10 * 128 + 128


def test_only_the_last_bias_is_there_at_first():
    """It is random unless it is asked to be 0 (item 8.11 of the spec)."""
    feat = torch.randn(3, 6, 7, 7)
    body = SynthesizerBody(6)
    expected = body.conv3.bias[:, None, None].expand(3, 6, 7, 7)
    assert torch.equal(body(feat), expected)
    assert body.conv3.bias.abs().min() > 0
    assert SynthesizerBody(6, zero_bias=True)(feat).abs().max() == 0


def test_feature_is_not_written_to():
    feat = torch.randn(3, 6, 7, 7)
    SynthesizerBody(6)(feat)
    assert feat._version == 0


def test_context_is_given_where_it_is_read():
    feat, labels = torch.randn(3, 6, 7, 7), torch.eye(4)[:3]
    with pytest.raises(ValueError, match='if, and only if'):
        SynthesizerBody(6)(feat, labels)
    with pytest.raises(ValueError, match='if, and only if'):
        SynthesizerBody(6, num_classes=4)(feat)
