import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.local_heads import GreedyHead
from mmlocal.models.local_heads.classifiers import NETS, PIXEL_NETS
from mmlocal.registry import MODELS

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2])
IMAGES = torch.zeros(8, 3, 32, 32)


@pytest.mark.parametrize(
    ('channels', 'side', 'stride', 'loss', 'expected', 'grad'),
    [
        (16, 32, 1, 'contrast', 1.697535422026, 1.6631060186e-02),
        (32, 16, 2, 'contrast', 1.724909192879, 6.6511572465e-02),
        (64, 8, 4, 'contrast', 1.651884387089, 7.5522967130e-02),
        (16, 32, 1, 'softmax', 2.211516443649, None),
        (32, 16, 2, 'softmax', 2.161882379056, None),
        (64, 8, 4, 'softmax', 2.167937485263, None),
    ],
)
def test_published_losses(
    channels,
    side,
    stride,
    loss,
    expected,
    grad,
    boundary,
    vectors,
    class_samples,
):
    """The numbers are those of tests/test_models/vectors.py."""
    head = GreedyHead(
        boundary(channels, stride), net='1c2f', loss=loss, num_classes=10
    )
    feat = vectors.features(8, channels, side, side)
    losses = vectors.fill(head).loss(feat, IMAGES, class_samples())
    assert losses['loss_task'].item() == pytest.approx(expected, rel=1e-6)
    if grad:
        losses['loss_task'].backward()
        assert feat.grad.norm().item() == pytest.approx(grad, rel=1e-6)
    generated = vectors.task_loss(channels, side, loss)[0].item()
    assert generated == pytest.approx(expected, rel=1e-6)


def test_contrast_normalizes_and_reports_no_accuracy(boundary, class_samples):
    head = GreedyHead(
        boundary(6), net='linear', loss='contrast', temperature=0.2
    )
    feat = torch.randn(8, 6, 4, 4)
    losses = head.loss(feat, IMAGES, class_samples())
    assert list(losses) == ['loss_task']
    embedding = F.normalize(head.net(feat), dim=1)
    assert embedding.shape == (8, 128)
    expected = MODELS.build(
        {'type': 'mmlocal.SupConLoss', 'temperature': 0.2}
    )(embedding, LABELS)
    torch.testing.assert_close(losses['loss_task'], expected)
    assert head.predict(feat, IMAGES) == {}


def test_softmax_accuracy_and_logits(boundary, class_samples):
    head = GreedyHead(boundary(4), net='linear', num_classes=4)
    head.net.fc.weight.data = torch.eye(4)
    head.net.fc.bias.data.zero_()
    guess = [0, 1, 0, 2, 1, 1, 1, 1]  # five of eight are right
    feat = F.one_hot(torch.tensor(guess), 4).float()[..., None, None]
    losses = head.loss(feat, IMAGES, class_samples())
    assert losses['acc'].item() == 62.5
    expected = F.cross_entropy(feat[..., 0, 0], LABELS)
    torch.testing.assert_close(losses['loss_task'], expected)
    logits = head.predict(feat, IMAGES)['logits']
    assert torch.equal(logits.argmax(1), torch.tensor(guess))


def test_soft_labels(boundary, class_samples):
    head = GreedyHead(boundary(4), net='linear', num_classes=4)
    soft = torch.rand(8, 4).softmax(1)
    samples = class_samples()
    for sample, score in zip(samples, soft, strict=True):
        sample.set_gt_score(score)
    feat = torch.randn(8, 4, 2, 2)
    losses = head.loss(feat, IMAGES, samples)
    logits = head.net(feat)
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses['loss_task'], expected)
    right = (logits.argmax(1) == soft.argmax(1)).float().mean()
    assert losses['acc'] == 100 * right
    head = GreedyHead(boundary(4), loss='contrast')
    with pytest.raises(ValueError, match='Mixup'):
        head.loss(feat, IMAGES, samples)


def segmentation_head(boundary, **kwargs):
    head = GreedyHead(
        boundary(8, 8), net='segmentation', num_classes=3, **kwargs
    )
    return head.eval()  # no dropout


@pytest.mark.parametrize('ignore_index', [255, 1])
def test_pixel_loss_is_the_mean_over_valid_pixels(
    ignore_index, boundary, pixel_samples
):
    head = segmentation_head(boundary, ignore_index=ignore_index)
    head.net[-1].bias.data[1] += 1  # predict the ignored class, too
    feat = torch.randn(2, 8, 4, 5)
    labels = torch.randint(0, 3, (2, 32, 40))
    labels[:, 5:25] = ignore_index
    losses = head.loss(feat, IMAGES, pixel_samples(labels))
    logits = F.interpolate(
        head.net(feat), (32, 40), mode='bilinear', align_corners=True
    )
    expected = F.cross_entropy(logits, labels, ignore_index=ignore_index)
    torch.testing.assert_close(losses['loss_task'], expected)
    # Of the pixels where a cell of the feature lies.
    logits, labels = head.net(feat), labels[:, [0, 10, 21, 31]]
    labels = labels[..., [0, 10, 20, 29, 39]]
    valid = labels != ignore_index
    right = (logits.argmax(1) == labels)[valid].float().mean()
    torch.testing.assert_close(losses['acc'], 100 * right)
    assert head.predict(feat, IMAGES)['logits'].shape == (2, 3, 4, 5)


def test_no_valid_pixel(boundary, pixel_samples):
    head = segmentation_head(boundary)
    feat = torch.randn(2, 8, 4, 4, requires_grad=True)
    labels = torch.full((2, 32, 32), 255)
    losses = head.loss(feat, IMAGES, pixel_samples(labels))
    losses['loss_task'].backward()
    assert losses['loss_task'] == 0
    assert losses['acc'] == 0
    assert feat.grad.abs().max() == 0


def test_label_outside_the_classes(boundary, class_samples, pixel_samples):
    head = GreedyHead(boundary(4), num_classes=3)
    with pytest.raises(ValueError, match='label 3 .*local_heads.num_classes'):
        head.loss(torch.randn(8, 4, 2, 2), IMAGES, class_samples())
    head = segmentation_head(boundary)
    good, bad = torch.full((1, 8, 8), 255), torch.full((1, 8, 8), 7)
    feat = torch.randn(1, 8, 1, 1)
    # On the CPU every batch is looked at, not only the first.
    head.loss(feat, IMAGES, pixel_samples(good))
    with pytest.raises(ValueError, match='label 7 .*local_heads.num_classes'):
        head.loss(feat, IMAGES, pixel_samples(bad))


def test_device_labels_are_looked_at_once(boundary, monkeypatch):
    """On an accelerator the check waits for the device."""
    calls = []
    module = 'mmlocal.models.local_heads.supervised'
    monkeypatch.setattr(
        f'{module}.class_labels',
        lambda samples: torch.empty(8, dtype=torch.long, device='meta'),
    )
    monkeypatch.setattr(
        f'{module}.check_labels', lambda *args: calls.append(args)
    )
    head = GreedyHead(boundary(4), num_classes=3).to('meta')
    for _ in range(3):
        head.loss(torch.empty(8, 4, 2, 2, device='meta'), IMAGES, [])
    assert len(calls) == 1


@pytest.mark.parametrize('net', NETS)
def test_tokens(net, boundary, class_samples, pixel_samples):
    """Tokens, with a class token in front, equal the map they stand for."""
    where = {'channels': 8, 'stride': 8}
    head = GreedyHead(
        boundary(**where, layout='tokens'), net=net, num_classes=4
    ).eval()
    inputs = torch.zeros(8, 3, 32, 48)
    tokens = torch.randn(8, 25, 8)
    grid = tokens[:, 1:].transpose(1, 2).reshape(8, 8, 4, 6)
    if net == 'linear':  # the mean over all tokens
        expected = head.net(tokens)
        torch.testing.assert_close(expected, head.net.fc(tokens.mean(1)))
    else:
        expected = head.net(grid)
    assert torch.equal(head.predict(tokens, inputs)['logits'], expected)
    if net in PIXEL_NETS:
        samples = pixel_samples(torch.randint(0, 4, (8, 32, 48)))
    else:
        samples = class_samples()
    assert head.loss(tokens, inputs, samples)['loss_task'].isfinite()
    if net != 'linear':
        with pytest.raises(ValueError, match='layer2.1.*tokens'):
            head.loss(tokens[:, :20], inputs, samples)


@pytest.mark.parametrize('net', NETS)
def test_feature_is_not_written_to(net, boundary):
    head = GreedyHead(boundary(8), net=net, num_classes=4)
    feat = torch.randn(8, 8, 8, 8)
    head(feat, IMAGES)
    assert feat._version == 0


@pytest.mark.parametrize('loss', ['softmax', 'contrast'])
def test_loss_in_float32(loss, boundary, class_samples):
    """Under autocast, and with weights of low precision."""
    head = GreedyHead(boundary(8), net='1c2f', loss=loss, num_classes=4)
    feat = torch.randn(8, 8, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.loss(feat, IMAGES, class_samples())
    assert losses['loss_task'].dtype == torch.float32
    losses = head.bfloat16().loss(feat.bfloat16(), IMAGES, class_samples())
    assert losses['loss_task'].dtype == torch.float32


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'net': '3c1f', 'num_classes': 4}, "net='3c1f'.*'0c1f'"),
        ({'net': 'mlp-sr', 'num_classes': 4}, 'mmlocal.DGLHead'),
        ({'net': 'linear'}, 'local_heads: write num_classes='),
        ({'loss': 'mse', 'num_classes': 4}, "'softmax' or 'contrast'"),
        ({'loss': 'contrast', 'feature_dim': 0}, 'feature_dim=0'),
        ({'loss': 'contrast', 'net': 'segmentation'}, 'classifies pixels'),
        ({'net': 'imagenet', 'num_classes': 4, 'widen': 2}, 'widen=2'),
    ],
)
def test_bad_config(kwargs, message, boundary):
    with pytest.raises(ValueError, match=message):
        GreedyHead(boundary(), **kwargs)


def test_initialization(boundary):
    """He for convolutions; what torch gives for all else."""
    head = GreedyHead(boundary(32), net='2c2f', num_classes=10)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head.init_weights()
    after = head.state_dict()
    for key, value in after.items():
        if value.ndim == 4:
            std = (2 / (9 * value.shape[0])) ** 0.5
            assert value.std().item() == pytest.approx(std, rel=0.05)
        else:
            assert torch.equal(value, before[key])
    again = {k: v.clone() for k, v in after.items()}
    head.init_weights()
    for key, value in head.state_dict().items():
        assert torch.equal(value, again[key])


def test_segmentation_keeps_torch_initialization(boundary):
    head = segmentation_head(boundary)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head.init_weights()
    for key, value in head.state_dict().items():
        assert torch.equal(value, before[key])


def test_init_cfg_has_the_last_word(boundary):
    head = GreedyHead(
        boundary(8),
        net='1c1f',
        num_classes=4,
        init_cfg={'type': 'Constant', 'layer': 'Conv2d', 'val': 0.5},
    )
    head.init_weights()
    assert (head.net[0].weight == 0.5).all()
