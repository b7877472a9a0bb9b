import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmlocal.models.local_heads import GreedyHead, LayerwiseHead
from mmlocal.models.losses import SimilarityMatchingLoss, SupConLoss
from mmlocal.step import LocalStep, activate

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2])
IMAGES = torch.randn(8, 3, 8, 8)
SHAPES = [
    # Channels, side, kernel, padding, output and values of the published
    # table: images of 32 pixels, then of 28.
    (64, 32, (8, 4), (0, 0), (4, 8), 2048),
    (128, 16, (4, 4), (0, 0), (4, 4), 2048),
    (256, 8, (4, 2), (0, 0), (2, 4), 2048),
    (512, 4, (2, 2), (0, 0), (2, 2), 2048),
    (128, 32, (8, 8), (0, 0), (4, 4), 2048),
    (256, 16, (8, 4), (0, 0), (2, 4), 2048),
    (512, 8, (4, 4), (0, 0), (2, 2), 2048),
    (64, 28, (8, 4), (4, 0), (4, 7), 1792),
    (128, 14, (4, 4), (2, 2), (4, 4), 2048),
    (256, 7, (4, 2), (2, 1), (2, 4), 2048),
]


@pytest.fixture
def head(boundary):
    def build(channels=8, side=8, layout='map', **kwargs):
        where = boundary(channels, 8 // side, side=side, layout=layout)
        if kwargs.get('loss') != 'contrast':
            kwargs.setdefault('num_classes', 4)
        return LayerwiseHead(where, **kwargs)

    return build


@pytest.mark.parametrize(
    ('channels', 'side', 'kernel', 'padding', 'out', 'values'), SHAPES
)
def test_published_shapes(
    channels, side, kernel, padding, out, values, head, num_params
):
    classifier = head(channels, side, num_classes=10)
    pool = classifier.net[0].pool
    assert (pool.kernel_size, pool.padding) == (kernel, padding)
    feat = torch.randn(2, channels, side, side)
    assert pool(feat).shape[2:] == out
    assert num_params(classifier) == values * 10 + 10
    images = torch.zeros(2, 3, side, side)
    assert classifier(feat, images).shape == (2, 10)


def test_parameters_of_projections(head, num_params):
    """4.2 million of a linear one, for 2048 values."""
    square, conv = 2048 * 2048 + 2048, 9 * 64 * 64 + 64
    for net, expected in {
        'linear': square,
        'mlp': 2 * square,
        'conv': conv,
        'conv_2': 2 * conv,
        'identity': 0,
    }.items():
        with torch.device('meta'):
            found = head(64, 32, net=net, loss='similarity')
        assert num_params(found) == expected, net
    with torch.device('meta'):
        assert num_params(head(64, 32, net='mlp')) == square + 4 * 2049
        assert num_params(head(64, 32, loss='contrast')) == square
        small = head(64, 32, loss='contrast', feature_dim=128)
        assert num_params(small) == 2049 * 128


def test_what_is_small_is_not_pooled(head):
    classifier = head(8, 8)
    feat = torch.randn(8, 8, 8, 8)
    linear = classifier.net[1]
    expected = linear(feat.flatten(1))
    assert torch.equal(classifier.predict(feat, IMAGES)['logits'], expected)


def test_cross_entropy(head, class_samples):
    classifier, feat = head(net='mlp'), torch.randn(8, 8, 8, 8)
    losses = classifier.loss(feat, IMAGES, class_samples())
    assert [*losses] == ['loss_task', 'acc']
    logits = classifier.predict(feat, IMAGES)['logits']
    torch.testing.assert_close(
        losses['loss_task'], F.cross_entropy(logits, LABELS)
    )
    right = (logits.argmax(1) == LABELS).float().mean()
    assert losses['acc'] == 100 * right


@pytest.mark.parametrize(
    'net', ['linear', 'mlp', 'conv', 'conv_2', 'identity']
)
@pytest.mark.parametrize('target', ['onehot', 'centered'])
def test_similarity(net, target, head, class_samples):
    local, feat = head(net=net, loss='similarity', target=target), None
    feat = torch.randn(8, 8, 8, 8)
    losses = local.loss(feat, IMAGES, class_samples())
    assert [*losses] == ['loss_sim']
    compared = local.projection(feat)
    assert compared.ndim == (2 if net in ('linear', 'mlp') else 4)
    expected = SimilarityMatchingLoss(4, target)(compared, LABELS)
    assert torch.equal(losses['loss_sim'], expected)
    assert local.predict(feat, IMAGES) == {}


def test_predsim(head, class_samples):
    """Cross-entropy of the pooled feature, similarity of a convolution."""
    local, feat = head(loss='predsim'), torch.randn(8, 8, 8, 8)
    assert isinstance(local.projection[0], nn.Conv2d)
    assert isinstance(local.net[-1], nn.Linear)
    losses = local.loss(feat, IMAGES, class_samples())
    logits = local.predict(feat, IMAGES)['logits']
    task = 0.01 * F.cross_entropy(logits, LABELS)
    compared = local.projection(feat)
    similar = 0.99 * SimilarityMatchingLoss(4)(compared, LABELS)
    torch.testing.assert_close(losses['loss_task'], task)
    torch.testing.assert_close(losses['loss_sim'], similar)
    assert losses['acc'] > 0


@pytest.mark.parametrize('net', ['linear', 'mlp', 'identity'])
def test_two_views(net, head, class_samples):
    """16 rows for 8 labels, one whole view after the other."""
    local, feat = head(net=net, loss='contrast'), torch.randn(16, 8, 8, 8)
    images = torch.randn(16, 3, 8, 8)
    losses = local.loss(feat, images, class_samples())
    embedding = F.normalize(local.projection(feat).flatten(1), dim=1)
    labels = torch.cat([LABELS, LABELS])
    expected = SupConLoss(0.1, 0.07)(embedding, labels)
    assert torch.equal(losses['loss_task'], expected)
    assert local.predict(feat, images) == {}
    with pytest.raises(ValueError, match='15 rows for 8 labels.*MultiView'):
        local.loss(feat[:15], images[:15], class_samples())


@pytest.mark.parametrize('loss', ['softmax', 'similarity', 'predsim'])
def test_other_losses_count_every_view(loss, head, class_samples):
    local, feat = head(loss=loss), torch.randn(16, 8, 8, 8)
    images = torch.randn(16, 3, 8, 8)
    twice = [*class_samples(), *class_samples()]
    assert local.loss(feat, images, class_samples()) == local.loss(
        feat, images, twice
    )


def test_greedy_heads_count_every_view(boundary, class_samples):
    greedy = GreedyHead(boundary(8), num_classes=4)
    feat, images = torch.randn(16, 8, 8, 8), torch.randn(16, 3, 8, 8)
    losses = greedy.loss(feat, images, class_samples())
    logits = greedy.predict(feat, images)['logits']
    labels = torch.cat([LABELS, LABELS])
    expected = F.cross_entropy(logits, labels)
    torch.testing.assert_close(losses['loss_task'], expected)


@pytest.mark.parametrize('loss', ['softmax', 'similarity', 'predsim'])
def test_vectors(loss, head, class_samples, num_params):
    """Of VGG's linear layers; a convolution is a linear layer there."""
    net = None if loss == 'softmax' else 'conv'
    local = head(8, 1, layout='vector', loss=loss, net=net)
    feat = torch.randn(8, 8)
    losses = local.loss(feat, IMAGES, class_samples())
    assert all(value.isfinite() for value in losses.values())
    assert (
        num_params(local)
        == {
            'softmax': 36,
            'similarity': 72,
            'predsim': 36 + 72,
        }[loss]
    )


def test_tokens_are_seen_on_their_grid(head, class_samples):
    local = head(8, 4, layout='tokens')
    tokens = torch.randn(8, 17, 8)
    grid = tokens[:, 1:].transpose(1, 2).reshape(8, 8, 4, 4)
    logits = local.predict(tokens, IMAGES)['logits']
    assert torch.equal(logits, local.net(grid))
    assert local.loss(tokens, IMAGES, class_samples())['loss_task'] > 0


@pytest.mark.parametrize('net', ['linear', 'mlp'])
def test_pixels(net, head, pixel_samples):
    local = head(8, 4, net=net, ignore_index=255)
    feat = torch.randn(2, 8, 4, 4)
    labels = torch.randint(0, 4, (2, 8, 8))
    labels[:, :3] = 255
    losses = local.loss(feat, IMAGES[:2], pixel_samples(labels))
    logits = local.predict(feat, IMAGES[:2])['logits']
    assert logits.shape == (2, 4, 4, 4)
    resized = F.interpolate(
        logits, (8, 8), mode='bilinear', align_corners=True
    )
    expected = F.cross_entropy(resized, labels, ignore_index=255)
    torch.testing.assert_close(losses['loss_task'], expected)


@pytest.mark.parametrize('scope', ['global', 'local'])
@pytest.mark.parametrize('on', ['head', 'feature'])
def test_regularizer(scope, on, head, class_samples):
    """Information is rewarded."""
    from mmlocal.models.losses import gaussian_kernel, nhsic

    options = {'scope': scope, 'on': on, 'weight': 0.5}
    local = head(regularizer=options)
    feat = torch.randn(8, 8, 8, 8, requires_grad=True)
    taken = torch.randn(8, 5, 4, 4)
    with activate(LocalStep(module_input=taken)):
        losses = local.loss(feat, IMAGES, class_samples())
    told = local(feat, IMAGES) if on == 'head' else feat
    source = IMAGES if scope == 'global' else taken
    value = nhsic(gaussian_kernel(told), gaussian_kernel(source))
    torch.testing.assert_close(losses['nhsic'], value)
    torch.testing.assert_close(losses['loss_nhsic'], -0.5 * value)
    (grad,) = torch.autograd.grad(losses['loss_nhsic'], feat)
    assert grad.abs().sum() > 0


def test_regularizer_of_maps_and_tokens(head, pixel_samples, class_samples):
    options = {'weight': 0.1}
    local = head(8, 4, ignore_index=255, regularizer=options)
    labels = pixel_samples(torch.zeros(8, 8, 8, dtype=torch.long))
    losses = local.loss(torch.randn(8, 8, 4, 4), IMAGES, labels)
    assert 0 < losses['nhsic'] < 7
    options['on'] = 'feature'
    local = head(8, 4, layout='tokens', regularizer=options)
    losses = local.loss(torch.randn(8, 16, 8), IMAGES, class_samples())
    assert 0 < losses['nhsic'] < 7


def test_regularizer_in_float32(head, class_samples):
    local = head(regularizer={})
    feat = torch.randn(8, 8, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        losses = local.loss(feat, IMAGES, class_samples())
    assert losses['nhsic'].dtype == torch.float32


def test_a_local_scope_needs_a_step(head, class_samples):
    local = head(regularizer={'scope': 'local'})
    with pytest.raises(RuntimeError, match="scope='local' needs the step"):
        local.loss(torch.randn(8, 8, 8, 8), IMAGES, class_samples())


def test_images_of_another_size(head, class_samples):
    local = head(8, 4)
    with pytest.raises(ValueError, match=r'4x4 cells.*8x8.*input_shape=\(3'):
        local.loss(torch.randn(8, 8, 8, 8), IMAGES, class_samples())


@pytest.mark.parametrize('loss', ['softmax', 'similarity', 'predsim'])
def test_feature_is_not_written_to(loss, head, class_samples):
    for net in ('linear', 'mlp'):
        feat = torch.randn(8, 8, 8, 8)
        head(loss=loss, net=net).loss(feat, IMAGES, class_samples())
        assert feat._version == 0


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'net': 'fc'}, "net='fc'.*'conv_2'"),
        ({'loss': 'mse'}, "loss='mse'.*'predsim'"),
        ({'net': 'conv'}, "net='conv' does not fit loss='softmax'"),
        ({'net': 'identity'}, 'does not fit'),
        ({'loss': 'contrast', 'net': 'conv_2'}, "'linear', 'mlp', 'identity'"),
        ({'num_classes': None}, 'write num_classes='),
        ({'loss': 'similarity', 'num_classes': None}, 'write num_classes='),
        ({'loss': 'predsim', 'beta': 2}, 'beta=2'),
        ({'loss': 'similarity', 'target': 'cos'}, "target='cos'"),
        ({'loss': 'similarity', 'ignore_index': 255}, 'one label each'),
        ({'loss': 'contrast', 'ignore_index': 255}, 'one label each'),
        ({'layout': 'sequence'}, r'sequence \(N, C, L\)'),
        ({'regularizer': {'scope': 'all'}}, "regularizer.scope='all'"),
        ({'regularizer': {'on': 'net'}}, "regularizer.on='net'.*'feature'"),
        ({'regularizer': {'weight': -1}}, 'weight=-1 must be 0 or more'),
    ],
)
def test_bad_config(kwargs, message, head):
    with pytest.raises(ValueError, match=message):
        head(**kwargs)
