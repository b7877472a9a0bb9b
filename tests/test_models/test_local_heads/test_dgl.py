import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmlocal.models.local_heads import DGLHead, InfoProHead
from mmlocal.models.local_heads.dgl import NETS, RECIPES
from mmlocal.models.local_heads.synthesizer import SynthesizerBody
from mmlocal.registry import MODELS

IMAGES = torch.zeros(8, 3, 32, 32)


@pytest.fixture
def net(boundary):
    def build(name, channels=8, classes=5, **kwargs):
        return DGLHead(boundary(channels), name, classes, **kwargs).net

    return build


@pytest.mark.parametrize(
    ('name', 'channels', 'classes', 'millions'),
    [
        ('cnn', 512, 10, 4.74),
        ('mlp', 512, 10, 12.62),
        ('mlp-sr', 512, 10, 13.41),
        # On ImageNet, up to ResNet-152's cut.
        ('mlp-sr', 64, 1000, 0.47),
        ('mlp-sr', 128, 1000, 1.35),
        ('mlp-sr', 256, 1000, 4.38),
        ('mlp-sr', 512, 1000, 15.44),
        ('mlp-sr', 1024, 1000, 57.62),
        # ResNet-110, K=2.
        ('mlp-sr', 32, 10, 0.055),
    ],
)
def test_published_parameters(
    name, channels, classes, millions, net, num_params
):
    with torch.device('meta'):
        total = num_params(net(name, channels, classes)) / 1e6
    digits = 3 if millions == 0.055 else 2
    assert round(total, digits) == millions


def relu_bn(bn, x):
    """BatchNorm in training, as an equation, and ReLU."""
    dims = [d for d in range(x.ndim) if d != 1]
    mean = x.mean(dims, keepdim=True)
    var = x.var(dims, unbiased=False, keepdim=True)
    assert (bn.weight == 1).all() and (bn.bias == 0).all()
    return F.relu((x - mean) / (var + bn.eps).sqrt())


@pytest.mark.parametrize('name', RECIPES)
@pytest.mark.parametrize('side', [8, 12])
def test_layers_of_section_3(name, side, net):
    """Against the layers written down one by one."""
    module = net(name, num_convs=2 if name == 'buffer' else None)
    assert module.training
    feat = torch.randn(6, 8, side, side)
    x = feat
    if name in ('mlp', 'mlp-sr'):
        x = F.avg_pool2d(x, 4)  # to 2x2 or 3x3
    convs = [m for m in module.convs if isinstance(m, nn.Conv2d)]
    bns = [m for m in module.convs if isinstance(m, nn.BatchNorm2d)]
    kernel = {'mlp-sr': [1, 1, 1], 'mlp': []}.get(name, [3, 3])
    assert [conv.kernel_size[0] for conv in convs] == kernel
    for conv, bn in zip(convs, bns, strict=True):
        x = F.conv2d(x, conv.weight, padding=conv.kernel_size[0] // 2)
        x = relu_bn(bn, x)
    if name in ('mlp', 'mlp-sr'):
        x = F.adaptive_avg_pool2d(x, 2)
    else:
        x = F.avg_pool2d(x, side // 2)
    linears = [m for m in module.mlp if isinstance(m, nn.Linear)]
    if name == 'cnn':
        (bn,) = [m for m in module.mlp if isinstance(m, nn.BatchNorm2d)]
        mean = x.mean((0, 2, 3), keepdim=True)
        var = x.var((0, 2, 3), unbiased=False, keepdim=True)
        x = ((x - mean) / (var + bn.eps).sqrt()).flatten(1)
    else:
        x = x.flatten(1)
        for linear, bn in zip(
            linears[:-1],
            [m for m in module.mlp if isinstance(m, nn.BatchNorm1d)],
            strict=True,
        ):
            x = relu_bn(bn, x @ linear.weight.T + linear.bias)
    assert len(linears) == (1 if name == 'cnn' else 4)
    expected = x @ linears[-1].weight.T + linears[-1].bias
    torch.testing.assert_close(module(feat), expected, rtol=1e-4, atol=1e-4)


def test_synthesizer_net(net):
    """The body of a synthesizer, global pooling, a linear layer."""
    module = net('synthesizer')
    assert isinstance(module.body, SynthesizerBody)
    nn.init.normal_(module.body.conv3.weight)
    feat = torch.randn(4, 8, 3, 3)
    pooled = F.avg_pool2d(module.body(feat), 3).flatten(1)
    expected = pooled @ module.fc.weight.T + module.fc.bias
    torch.testing.assert_close(module(feat), expected)


def test_the_comparison_with_dni_starts_without_gradient(
    boundary, class_samples
):
    head = DGLHead(boundary(8), 'synthesizer', num_classes=4)
    head.init_weights()
    feat = torch.randn(8, 8, 10, 10, requires_grad=True)
    head.loss(feat, IMAGES, class_samples())['loss_task'].backward()
    assert feat.grad.abs().max() == 0
    assert head.net.body.conv3.weight.grad.abs().max() > 0


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('size', [(16, 16), (9, 7), (3, 1)])
def test_takes_any_side_and_trains_all(name, size, boundary):
    head = DGLHead(boundary(8), name, num_classes=5)
    logits = head(torch.randn(4, 8, *size), IMAGES)
    assert logits.shape == (4, 5)
    logits.square().mean().backward()
    unused = [n for n, p in head.named_parameters() if p.grad is None]
    assert unused == []


def sides_seen(module, side):
    """Of the features that the convolutions see."""
    seen = []
    for layer in module.convs:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, args, out: seen.append(out.shape[2])
            )
    module(torch.randn(4, 8, side, side))
    return seen


def test_resolutions(net):
    """`cnn` works at full resolution, `mlp-sr` at a quarter of the side."""
    assert sides_seen(net('cnn'), 17) == [17, 17]
    assert sides_seen(net('mlp-sr'), 17) == [5, 5, 5]


def test_side_of_the_published_resnet152(net):
    """Half of the real side of 14 is counted: 2x2 cells in place of 4x4."""
    assert sides_seen(net('mlp-sr'), 14) == [4, 4, 4]
    assert sides_seen(net('mlp-sr', side=7), 14) == [2, 2, 2]
    assert sides_seen(net('mlp-sr', side=14), 14) == [4, 4, 4]


def test_mlp_pools_twice(net):
    module = net('mlp', 4).eval()
    feat = torch.randn(2, 4, 9, 9)
    pooled = F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(feat, 3), 2)
    assert torch.equal(module(feat), module.mlp(pooled))
    assert not torch.allclose(pooled, F.adaptive_avg_pool2d(feat, 2))


@pytest.mark.parametrize('name', RECIPES)
@pytest.mark.parametrize('convs', [0, 1, 4])
@pytest.mark.parametrize('hidden', [0, 2])
def test_numbers_of_layers(name, convs, hidden, net):
    module = net(name, num_convs=convs, hidden_layers=hidden)
    kinds = [type(layer) for layer in module.modules()]
    assert kinds.count(nn.Conv2d) == convs
    assert kinds.count(nn.Linear) == hidden + 1
    assert kinds.count(nn.BatchNorm1d) == hidden
    assert kinds.count(nn.BatchNorm2d) == convs + (hidden == 0)


def test_macs_of_the_auxiliary_study(net):
    """Of module 3, 256 channels at 16x16: 200, 2.1 and 4.2 % of it."""
    module = 16 * 16 * 256 * 256 * 9
    for name, percent in ('cnn', 200), ('mlp', 2.1), ('mlp-sr', 4.2):
        with torch.device('meta'):
            head = net(name, 256, 10)
            with FlopCounterMode(display=False) as counter:
                head(torch.empty(2, 256, 16, 16))
        share = counter.get_total_flops() / 2 / 2 / module
        assert 100 * share == pytest.approx(percent, abs=0.05)


def test_keys_of_earlier_checkpoints(net):
    """As `GreedyHead` named them when it held these nets."""
    assert [key for key, _ in net('cnn').named_parameters()] == [
        'convs.0.weight',
        'convs.1.weight',
        'convs.1.bias',
        'convs.3.weight',
        'convs.4.weight',
        'convs.4.bias',
        'mlp.0.weight',
        'mlp.0.bias',
        'mlp.2.weight',
        'mlp.2.bias',
    ]
    keys = {key for key, _ in net('mlp-sr').named_parameters()}
    assert {'convs.6.weight', 'mlp.1.weight', 'mlp.10.bias'} <= keys


def test_norm_is_configurable(net):
    modules = [*net('cnn', norm_cfg={'type': 'SyncBN'}).modules()]
    assert any(isinstance(m, nn.SyncBatchNorm) for m in modules)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in modules)


@pytest.mark.parametrize('name', NETS)
def test_tokens_and_a_feature_that_is_not_written_to(name, boundary):
    head = DGLHead(
        boundary(8, 8, layout='tokens'), name, num_classes=4, loss='softmax'
    ).eval()
    tokens = torch.randn(8, 25, 8)
    grid = tokens[:, 1:].transpose(1, 2).reshape(8, 8, 4, 6)
    inputs = torch.zeros(8, 3, 32, 48)
    logits = head.predict(tokens, inputs)['logits']
    assert torch.equal(logits, head.net(grid))
    assert tokens._version == 0


def test_initialization(boundary):
    """What torch gives, and `init_cfg` on top."""
    head = DGLHead(boundary(8), 'cnn', num_classes=4)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head.init_weights()
    for key, value in head.state_dict().items():
        assert torch.equal(value, before[key])
    head = DGLHead(
        boundary(8),
        num_classes=4,
        init_cfg=[{'type': 'Constant', 'layer': 'Linear', 'val': 0.5}],
    )
    head.init_weights()
    assert (head.net.mlp[-1].weight == 0.5).all()


@pytest.mark.parametrize('task', ['softmax', 'contrast'])
def test_nets_of_infopro(task, boundary, class_samples):
    """InfoPro's task term has them by `aux_net`, with the same keys."""
    head = InfoProHead(boundary(8), task=task, num_classes=4, aux_net='mlp-sr')
    assert type(head.task) is DGLHead
    assert 'task.net.convs.0.weight' in head.state_dict()
    feat = torch.randn(8, 8, 8, 8)
    losses = head.task.loss(feat, IMAGES, class_samples())
    assert losses['loss_task'].isfinite()
    with pytest.raises(ValueError, match="widen=2.*aux_net='mlp-sr'"):
        InfoProHead(boundary(8), num_classes=4, aux_net='mlp-sr', widen=2)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'net': '0c1f'}, "net='0c1f'.*'mlp-sr'.*mmlocal.GreedyHead"),
        ({'net': 'synthesizer', 'num_convs': 2}, 'num_convs is not read'),
        ({'net': 'synthesizer', 'hidden_layers': 1}, 'hidden_layers is not'),
        ({'net': 'mlp', 'hidden_layers': -1}, '3 is the published value'),
        ({'net': 'cnn', 'side': 7}, "side is not read by net='cnn'"),
        ({'net': 'mlp', 'side': 0}, 'side=0 must be 1 or more'),
        ({'num_classes': None}, 'write num_classes='),
    ],
)
def test_bad_config(kwargs, message, boundary):
    with pytest.raises(ValueError, match=message):
        DGLHead(boundary(), **{'num_classes': 4, **kwargs})


def test_is_registered(boundary):
    cfg = {'type': 'mmlocal.DGLHead', 'num_classes': 4}
    head = MODELS.build(cfg, default_args={'boundary': boundary()})
    assert len(head.net.convs) == 9
