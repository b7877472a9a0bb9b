"""Networks whose cuts several tensors cross, against two oracles.

The first writes small networks down once more, with a detach at each cut. The
second knows nothing of cuts: in one whole graph, each weight learns from the
first loss that it leads to.
"""

from __future__ import annotations

import weakref
from collections import namedtuple
from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F

from mmlocal.models.structure import floats
from mmlocal.registry import MODELS
from mmlocal.step import LocalStep, Stopped, activate

SAMPLES = [DataSample().set_gt_label(label) for label in (1, 2)]
HEAD = {'type': 'mmlocal.GreedyHead', 'num_classes': 3}


def conv(c_in, c_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, 2)
        self.conv = conv(2 * channels, channels)

    def forward(self, skip, x):
        return self.conv(torch.cat([skip, self.up(x)], 1))


@MODELS.register_module(force=True)
class TinyUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(
            [conv(3, 4), conv(4, 8, 2), conv(8, 16, 2)]
        )
        self.decoder = nn.ModuleList([Up(8), Up(4)])

    def forward(self, x):
        a = self.encoder[0](x)
        b = self.encoder[1](a)
        c = self.encoder[2](b)
        d = self.decoder[0](b, c)
        return {'deep': d, 'last': self.decoder[1](a, d)}

    def by_hand(self, x):
        """Cut before encoder.2 and decoder.1."""
        a = self.encoder[0](x)
        b = self.encoder[1](a)
        first = b
        a, b = a.detach(), b.detach()
        d = self.decoder[0](b, self.encoder[2](b))
        return [first, d], [self.decoder[1](a, d.detach())]


class Stage(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([conv(4, 4), conv(8, 8)])
        self.down, self.up = conv(4, 8, 2), conv(8, 4)

    def forward(self, feats):
        high, low = (f(x) for f, x in zip(self.branches, feats, strict=True))
        up = F.interpolate(self.up(low), scale_factor=2)
        return [high + up, low + self.down(high)]


Outputs = namedtuple('Outputs', 'high low')


@MODELS.register_module(force=True)
class TinyHRNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.low = conv(3, 4), conv(4, 8, 2)
        self.stages = nn.ModuleList([Stage() for _ in range(3)])

    def forward(self, image):
        x = self.stem(image)
        feats = [x, self.low(x)]
        for stage in self.stages:
            feats = stage(feats)
        return Outputs(*feats)

    def by_hand(self, x):
        """Cut before stages.1 and stages.2."""
        x = self.stem(x)
        feats, read = [x, self.low(x)], []
        for index, stage in enumerate(self.stages):
            if index:
                low = F.interpolate(
                    feats[1],
                    feats[0].shape[2:],
                    mode='bilinear',
                    align_corners=False,
                )
                read.append(torch.cat([feats[0], low], 1))
                feats = [feat.detach() for feat in feats]
            feats = stage(feats)
        return read, feats


@MODELS.register_module(force=True)
class TinyGrid(nn.Module):
    """Channels last, as in the ViT of SAM."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 4, 2)
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        for layer in self.layers:
            x = layer(x).relu()
        return x.permute(0, 3, 1, 2)

    def by_hand(self, x):
        """Cut before layers.1 and layers.2."""
        x, read = self.stem(x).permute(0, 2, 3, 1), []
        for index, layer in enumerate(self.layers):
            if index:
                read.append(x.permute(0, 3, 1, 2))
                x = x.detach()
            x = layer(x).relu()
        return read, [x.permute(0, 3, 1, 2)]


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(8, 4)

    def forward(self, feats):
        return self.conv(torch.cat(feats, 1))


@MODELS.register_module(force=True)
class TinyLists(nn.Module):
    """A list holds what the module before has put out, and an earlier one."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = conv(3, 4), conv(4, 4)
        self.layers = nn.ModuleList([Both(), Both()])

    def forward(self, x):
        early = self.stem(x)
        x = self.first(early)
        for layer in self.layers:
            x = layer([early, x])
        return x

    def by_hand(self, x):
        """Cut before layers.0 and layers.1."""
        early = self.stem(x)
        x, read = self.first(early), []
        for layer in self.layers:
            read.append(torch.cat([early, x], 1))
            early, x = early.detach(), x.detach()
            x = layer([early, x])
        return read, [x]


BY_HAND = {
    'TinyLists': ['layers.0', 'layers.1'],
    'TinyGrid': ['layers.1', 'layers.2'],
    'TinyUNet': ['encoder.2', 'decoder.1'],
    'TinyHRNet': ['stages.1', 'stages.2'],
}


def build(kind, boundaries, **kwargs):
    inner = kind if isinstance(kind, dict) else {'type': f'mmlocal.{kind}'}
    init_default_scope(inner['type'].partition('.')[0])
    torch.manual_seed(0)
    cfg = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': inner,
        'boundaries': boundaries,
        'local_heads': HEAD,
        'input_shape': (3, 64, 64),
        **kwargs,
    }
    return MODELS.build(ConfigDict(deepcopy(cfg))).train()


def last_loss(outputs):
    values = [v for v in floats(outputs).values() if v.requires_grad]
    return sum((0.1 * value).sin().mean() for value in values)


def step(model, x):
    """The backbone's outputs in a local training step."""
    local = LocalStep(inputs=x, data_samples=SAMPLES)
    torch.manual_seed(1)
    with activate(local):
        outputs = model(x)
        last_loss(outputs).backward()
    return outputs


def head_loss(model, index, feat, x):
    losses = model.local_heads[index].loss(feat, x, SAMPLES)
    return sum(value for key, value in losses.items() if 'loss' in key)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('kind', BY_HAND)
def test_gradients_equal_those_of_the_net_written_by_hand(kind, dtype):
    model = build(kind, BY_HAND[kind]).to(dtype)
    oracle = deepcopy(model)
    x = torch.randn(2, 3, 16, 16, dtype=dtype)
    step(model, x)
    reads, outputs = oracle.backbone.by_hand(x)
    losses = [head_loss(oracle, i, feat, x) for i, feat in enumerate(reads)]
    (sum(losses) + last_loss(outputs)).backward()
    expected = dict(oracle.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(weight.grad, expected[name].grad), name


@pytest.mark.parametrize('kind', ['TinyUNet', 'TinyHRNet'])
def test_outputs_keep_their_kind(kind):
    model = build(kind, BY_HAND[kind])
    x = torch.randn(2, 3, 16, 16)
    outputs = step(model, x)
    expected = model.backbone(x)
    assert type(outputs) is type(expected)
    if kind == 'TinyUNet':
        assert not outputs['deep'].requires_grad
        assert outputs['last'].requires_grad
    else:
        assert outputs.high.requires_grad and outputs.low.requires_grad
        # Its forward names the images otherwise.
        assert type(model.eval()(image=x)) is Outputs


def on_grid(tokens):
    """Without the class token."""
    side = int((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].mT.unflatten(2, (side, side))


def first_losses(model, x):
    """Gradient of each weight by the first loss that it leads to."""
    losses, net = [], model.backbone

    def read(index, cut, module, args, kwargs):
        taken = floats((args, kwargs))
        # A copy, since what comes next may write in place.
        feats = [taken[path].clone() for path in cut.reads]
        if len(feats) > 1:
            feats = [f if f.ndim == 4 else on_grid(f) for f in feats]
        size = max((f.shape[2:] for f in feats), key=lambda s: s.numel())
        if len(feats) > 1:
            feats = [
                feat
                if feat.shape[2:] == size
                else F.interpolate(feat, size, mode='bilinear')
                for feat in feats
            ]
            feats = [torch.cat(feats, 1)]
        losses.append(head_loss(model, index, feats[0], x))

    handles = []
    for index, name in enumerate(model.boundaries):
        cut = model.crossings[name]
        handles.append(
            net.get_submodule(name).register_forward_pre_hook(
                lambda *args, i=index, cut=cut: read(i, cut, *args),
                with_kwargs=True,
            )
        )
    torch.manual_seed(1)
    losses.append(last_loss(net(x)))
    for handle in handles:
        handle.remove()
    found, weights = {}, dict(net.named_parameters())
    for index, loss in enumerate(losses):
        gradients = torch.autograd.grad(
            loss, [*weights.values()], allow_unused=True, retain_graph=True
        )
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                found.setdefault(name, (index, gradient))
    return found


HRNET = {
    f'stage{i + 1}': {
        'num_modules': 1,
        'num_branches': i + 1,
        'block': 'BASIC' if i else 'BOTTLENECK',
        'num_blocks': (1,) * (i + 1),
        'num_channels': tuple(4 * 2**j for j in range(i + 1)) if i else (4,),
    }
    for i in range(4)
}
STOCK = {
    'unet': (
        {
            'type': 'mmseg.UNet',
            'base_channels': 4,
            'num_stages': 4,
            'strides': (1,) * 4,
            'enc_num_convs': (1,) * 4,
            'dec_num_convs': (1,) * 3,
            'downsamples': (True,) * 3,
            'enc_dilations': (1,) * 4,
            'dec_dilations': (1,) * 3,
        },
        ['encoder.1', 'decoder.2', 'decoder.0'],
    ),
    'hrnet': (
        {'type': 'mmseg.HRNet', 'extra': HRNET},
        ['transition1.0', 'stage3.0', 'stage4'],
    ),
    'bisenet_v1': (
        {
            'type': 'mmseg.BiSeNetV1',
            'in_channels': 3,
            'spatial_channels': (4, 4, 4, 8),
            'context_channels': (8, 16, 32),
            'out_channels': 16,
            'backbone_cfg': {
                'type': 'mmseg.ResNet',
                'depth': 18,
                'base_channels': 4,
            },
        },
        ['context_path.backbone.layer3.0', 'ffm'],
    ),
    'bisenet_v2': (
        {
            'type': 'mmseg.BiSeNetV2',
            'detail_channels': (4, 4, 8),
            'semantic_channels': (4, 8, 8, 8),
            'semantic_expansion_ratio': 2,
            'bga_channels': 8,
        },
        ['detail.detail_branch.1.0', 'bga'],
    ),
    'fast_scnn': (
        {
            'type': 'mmseg.FastSCNN',
            'downsample_dw_channels': (4, 8),
            'global_in_channels': 8,
            'global_block_channels': (8, 8, 16),
            'global_block_strides': (2, 2, 1),
            'global_out_channels': 16,
            'higher_in_channels': 8,
            'lower_in_channels': 16,
            'fusion_out_channels': 16,
        },
        ['global_feature_extractor.bottleneck1.1', 'feature_fusion'],
    ),
    'icnet': (
        {
            'type': 'mmseg.ICNet',
            'layer_channels': (16, 64),
            'light_branch_middle_channels': 4,
            'psp_out_channels': 8,
            'out_channels': (4, 8, 8),
            'backbone_cfg': {
                'type': 'mmseg.ResNetV1c',
                'depth': 18,
                'base_channels': 8,
                'stem_channels': 8,
            },
        },
        ['backbone.layer2.0', 'backbone.layer4.0'],
    ),
    'ddrnet': (
        {'type': 'mmseg.DDRNet', 'channels': 4, 'ppm_channels': 8},
        ['stem.4.0', 'context_branch_layers.0.0'],
    ),
    'tnt': (
        {
            'type': 'mmpretrain.TNT',
            'img_size': 64,
            'arch': {
                'embed_dims_outer': 16,
                'embed_dims_inner': 8,
                'num_layers': 3,
                'num_heads_outer': 2,
                'num_heads_inner': 2,
            },
        },
        ['layers.1', 'layers.2'],
    ),
    'conformer': (
        {
            'type': 'mmpretrain.Conformer',
            'arch': {
                'embed_dims': 16,
                'channel_ratio': 1,
                'num_heads': 2,
                'depths': 6,
            },
        },
        ['conv_trans_2', 'conv_trans_4'],
    ),
}


@pytest.fixture(scope='module')
def kept():
    return {}


@pytest.fixture(params=STOCK)
def stock(request, kept):
    """A model of its own, of those that are built once."""
    if request.param not in kept:
        kept[request.param] = build(*STOCK[request.param])
    return deepcopy(kept[request.param])


@pytest.mark.slow
def test_each_weight_learns_from_the_first_loss_it_leads_to(stock):
    model, oracle = stock, deepcopy(stock)
    x = torch.randn(2, 3, 64, 64)
    step(model, x)
    expected = first_losses(oracle, x)
    owners = set()
    for name, weight in model.backbone.named_parameters():
        assert (weight.grad is None) == (name not in expected), name
        if name in expected:
            index, gradient = expected[name]
            owners.add(index)
            torch.testing.assert_close(
                weight.grad, gradient, rtol=2e-4, atol=1e-7, msg=name
            )
            assert model._parts.weights[name] == index, name
    assert owners == {0, *range(len(model.boundaries) + 1)}


def test_eval_is_the_plain_backbone(stock):
    model = stock.eval()
    x = torch.randn(2, 3, 64, 64)
    found, expected = floats(model(x)), floats(model.backbone(x))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        assert torch.equal(found[path], value)
    with model.reading_out() as predictions, torch.no_grad():
        read_out = floats(model(x))
    for path, value in expected.items():
        assert torch.equal(read_out[path], value)
    assert len(predictions[0]) == len(model.boundaries)


@pytest.mark.parametrize('mode', ['block', 'selective'])
@pytest.mark.parametrize('kind', ['TinyUNet', 'TinyHRNet'])
def test_checkpointing_changes_no_gradient(kind, mode):
    plain = build(kind, BY_HAND[kind])
    model = build(kind, BY_HAND[kind], checkpointing=mode)
    x = torch.randn(2, 3, 16, 16)
    step(plain, x), step(model, x)
    expected = dict(plain.named_parameters())
    for key, weight in model.named_parameters():
        torch.testing.assert_close(
            weight.grad, expected[key].grad, rtol=1e-4, atol=1e-6
        )
    for key, buffer in model.named_buffers():
        assert torch.equal(buffer, dict(plain.named_buffers())[key]), key


@pytest.mark.parametrize('kind', BY_HAND)
def test_one_module_alone_gets_the_gradients_of_all_at_once(kind):
    together = build(kind, BY_HAND[kind])
    alone = deepcopy(together)
    x = torch.randn(2, 3, 16, 16)
    step(together, x)
    # Those before it are in train mode, too, as they are together.
    alone.train_only(1, moving_statistics=True)
    with pytest.raises(Stopped):
        step(alone, x)
    expected = dict(together.named_parameters())
    owners = alone._parts.weights
    for name, weight in alone.backbone.named_parameters():
        if owners[name] == 1:
            other = expected[f'backbone.{name}'].grad
            torch.testing.assert_close(weight.grad, other, msg=name)
        else:
            assert weight.grad is None, name


def test_a_skip_keeps_no_activation_of_its_module():
    model = build('TinyUNet', ['encoder.2'])
    alive = []

    def watch(module, args, out):
        # The input of a ReLU, which autograd keeps for the norm layer.
        alive.append(weakref.ref(out.untyped_storage()))

    model.backbone.encoder[0][0].register_forward_hook(watch)
    model.backbone.encoder[1][0].register_forward_hook(watch)
    seen = []
    model.backbone.decoder[0].register_forward_pre_hook(
        lambda *args: seen.append([ref() is None for ref in alive])
    )
    step(model, torch.randn(2, 3, 16, 16))
    assert seen == [[True, True]]


def test_the_log_says_once_what_a_skip_does_not_train(caplog, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmlocal.models.backbones.local_supervised.print_log',
        lambda line, **kwargs: lines.append(line),
    )
    model = build('TinyUNet', ['encoder.2'])
    for _ in range(2):
        step(model, torch.randn(2, 3, 16, 16))
    (line,) = [line for line in lines if 'skip' in line]
    assert 'decoder.0' in line and 'decoder.1' in line


def test_a_head_that_gives_back_a_gradient_needs_one_feature():
    head = {'type': 'mmlocal.DNIHead'}
    with pytest.raises(ValueError, match='several features joined'):
        build('TinyHRNet', ['stages.1'], local_heads=head)


def test_a_backward_of_the_backbones_own_is_refused():
    inner = {
        'type': 'mmpretrain.RevVisionTransformer',
        'img_size': 64,
        'arch': {
            'embed_dims': 16,
            'num_layers': 2,
            'num_heads': 2,
            'feedforward_channels': 32,
        },
    }
    x = torch.randn(2, 3, 64, 64)
    with pytest.raises(ValueError, match='no_custom_backward=True'):
        step(build(inner, ['layers.1']), x)
    step(build({**inner, 'no_custom_backward': True}, ['layers.1']), x)
