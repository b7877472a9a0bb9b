"""Checkpointing against the same step without it."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.blocks import innermost_blocks
from mmlocal.registry import MODELS

TOKENS = {'type': 'mmlocal.GreedyHead', 'net': 'linear', 'num_classes': 10}
VIT = {
    'type': 'VisionTransformer',
    'arch': {
        'embed_dims': 32,
        'num_layers': 4,
        'num_heads': 2,
        'feedforward_channels': 128,
    },
    'img_size': 32,
    'patch_size': 8,
    'out_type': 'avg_featmap',
    'drop_rate': 0.2,
    'drop_path_rate': 0.2,
}
CONVNEXT = {
    'type': 'ConvNeXt',
    'arch': {'depths': [2, 2, 2, 1], 'channels': [8, 8, 16, 16]},
    'drop_path_rate': 0.3,
}
NETS = {
    'resnet18': ['layer2.1', 'layer4.0'],
    'resnet50': ['layer3.1'],
    'vit': ['layers.2'],
    'convnext': ['stages.2.0'],
}


def model_of(helpers, net, boundaries=None, **options):
    boundaries = NETS[net] if boundaries is None else boundaries
    if net.startswith('resnet'):
        cfg = helpers.segmentor_cfg(boundaries, depth=int(net[6:]))
        if net == 'resnet50':
            cfg['decode_head']['in_channels'] = 256
    else:
        inner, channels = {'vit': (VIT, 32), 'convnext': (CONVNEXT, 16)}[net]
        backbone = {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': dict(inner),
            'boundaries': boundaries,
            'local_heads': TOKENS,
            'input_shape': (3, 32, 32),
        }
        cfg = helpers.classifier_cfg(backbone, channels)
        cfg['neck'] = None
    cfg['backbone'].update(options)
    return helpers.build(cfg)


def train_step(helpers, net, model, wrapper=LocalOptimWrapper, **options):
    """Gradients and buffers after one step, at a fixed seed."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrap = wrapper(optimizer=optimizer, **options)
    batch = helpers.segmentation_batch()
    if not net.startswith('resnet'):
        batch = helpers.classification_batch()
    found = {}
    zero_grad = wrap.zero_grad
    wrap.zero_grad = lambda **kwargs: (
        found.update(helpers.grads(model)),
        zero_grad(**kwargs),
    )
    torch.manual_seed(3)
    model.train_step(batch, wrap)
    return found, dict(model.named_buffers())


def assert_same(left, right, tolerance=1e-6):
    for first, second in zip(left, right, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            if value is None:
                assert second[name] is None, name
            else:
                torch.testing.assert_close(
                    second[name],
                    value,
                    atol=tolerance,
                    rtol=tolerance * 10,
                    msg=lambda text, name=name: f'{name}: {text}',
                )


@pytest.mark.parametrize('mode', ['block', 'selective'])
@pytest.mark.parametrize('net', NETS)
@pytest.mark.slow
def test_gradients_and_statistics_are_those_without(helpers, net, mode):
    """BatchNorm moves once, dropout and drop path replay, and the block
    right after a boundary trains."""
    plain = train_step(helpers, net, model_of(helpers, net))
    model = model_of(helpers, net, checkpointing=mode)
    found = train_step(helpers, net, model)
    assert_same(plain, found)
    for name in NETS[net]:
        block = dict(model.backbone.backbone.named_modules())[name]
        assert all(
            found[0][f'backbone.backbone.{name}.{key}'] is not None
            for key, _ in block.named_parameters()
        )


def test_mm_checkpointing_is_taken_over(helpers):
    plain = train_step(helpers, 'resnet18', model_of(helpers, 'resnet18'))
    cfg = helpers.segmentor_cfg(NETS['resnet18'], with_cp=True)
    model = helpers.build(cfg)
    assert not any(
        getattr(module, 'with_cp', False) for module in model.modules()
    )
    assert_same(plain, train_step(helpers, 'resnet18', model))
    assert kept_bytes(helpers, model) < kept_bytes(
        helpers, model_of(helpers, 'resnet18')
    )


def kept_bytes(helpers, model):
    """Bytes that autograd is given to keep, outside of what it recomputes."""
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.randn(2, 3, 32, 32)
    keep = []
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        keep.append(model.backbone.backbone(images))
    return sum(sizes.values())


def test_modes_keep_what_they_say(helpers):
    """Of a bottleneck: all, its two costly outputs, or nothing."""
    kept = [
        kept_bytes(
            helpers, model_of(helpers, 'resnet50', [], checkpointing=mode)
        )
        for mode in (None, 'block')
    ]
    assert kept[1] < 0.5 * kept[0]
    outputs = []
    x = torch.randn(2, 128, 8, 8, requires_grad=True)
    for mode in (None, 'selective', 'block'):
        model = model_of(helpers, 'resnet50', [], checkpointing=mode)
        block = model.backbone.backbone.layer3[1]
        block(x)  # The first forward keeps nothing yet.
        with FlopCounterMode(display=False) as counter:
            block(x).sum().backward()
        outputs.append(counter.get_total_flops())
    positions = 2 * 8 * 8
    expand = 2 * positions * 32 * 128
    others = 2 * positions * (128 * 32 + 9 * 32 * 32)
    assert outputs[1] - outputs[0] == expand
    assert outputs[2] - outputs[0] == expand + others


def test_modes_by_module(helpers):
    model = model_of(
        helpers, 'resnet18', checkpointing=['selective', None, 'block']
    )
    modes = {
        name: block.forward.mode
        for name, block in model.backbone.backbone.named_modules()
        if 'forward' in vars(block)
    }
    assert modes == {
        'layer1.0': 'selective',
        'layer1.1': 'selective',
        'layer2.0': 'selective',
        'layer4.0': 'block',
        'layer4.1': 'block',
    }


@pytest.mark.parametrize('mode', ['block', 'selective'])
def test_amp(helpers, mode):
    options = {'wrapper': LocalAmpOptimWrapper, 'dtype': 'bfloat16'}
    plain = train_step(
        helpers, 'vit', model_of(helpers, 'vit'), loss_scale=1.0, **options
    )
    model = model_of(helpers, 'vit', checkpointing=mode)
    found = train_step(helpers, 'vit', model, loss_scale=1.0, **options)
    assert_same(plain, found, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['block', 'selective'])
def test_compiled_stages(helpers, mode):
    """As one graph: what AOTAutograd's partitioner makes of it."""
    plain = train_step(helpers, 'resnet18', model_of(helpers, 'resnet18'))
    compile_cfg = {
        'modules': ['layer1', 'layer3'],
        'backend': 'aot_eager_decomp_partition',
        'fullgraph': True,
    }
    model = model_of(
        helpers, 'resnet18', checkpointing=mode, compile_cfg=compile_cfg
    )
    assert_same(plain, train_step(helpers, 'resnet18', model), 1e-5)


def test_copies_and_pickles_run_their_own_blocks(helpers):
    """EMA copies the model; a copy must not train the original."""
    model = model_of(helpers, 'resnet18', checkpointing='block')
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        block = copy.backbone.backbone.layer1[0]
        assert block.forward.block is block
        assert block.forward.forward.__self__ is block
        assert copy.state_dict().keys() == model.state_dict().keys()
        assert_same(
            train_step(helpers, 'resnet18', deepcopy(model)),
            train_step(helpers, 'resnet18', copy),
        )


def test_blocks_are_the_innermost(helpers):
    swin = MODELS.build(
        {
            'type': 'mmpretrain.SwinTransformer',
            'arch': {
                'embed_dims': 8,
                'depths': [1, 1, 2, 1],
                'num_heads': [1, 1, 1, 1],
            },
            'img_size': 64,
        }
    )
    names = innermost_blocks(swin)
    assert 'stages.2.blocks.1' in names
    assert 'stages.2' not in names
    assert not any('ffn' in name for name in names)


# Blocks that take a list which grows behind their back, that change their
# input in place, and that overwrite what a convolution has returned.
ODD = {
    'densenet': {
        'type': 'mmpretrain.DenseNet',
        'arch': {
            'growth_rate': 4,
            'depths': [2, 2, 2, 2],
            'init_channels': 8,
        },
    },
    'tnt': {
        'type': 'mmpretrain.TNT',
        'arch': {
            'embed_dims_outer': 16,
            'embed_dims_inner': 8,
            'num_layers': 2,
            'num_heads_outer': 2,
            'num_heads_inner': 2,
        },
        'img_size': 32,
    },
    'vgg': {'type': 'mmpretrain.VGG', 'depth': 11, 'out_indices': (1,)},
}


@pytest.mark.parametrize('mode', ['block', 'selective'])
@pytest.mark.parametrize('net', ODD)
def test_blocks_that_share_or_overwrite_tensors(net, mode):
    cfg = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': ODD[net],
        'input_shape': (3, 32, 32),
    }
    plain = MODELS.build(cfg).train()
    model = MODELS.build({**cfg, 'checkpointing': mode}).train()
    model.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    grads = []
    # The second step knows what blocks change.
    for backbone in (plain, model, model):
        backbone.zero_grad()
        sum(out.square().mean() for out in backbone(images)).backward()
        grads.append({k: w.grad for k, w in backbone.named_parameters()})
    assert_same(grads[:1], grads[1:2])
    assert_same(grads[:1], grads[2:])
    assert sum(grad is not None for grad in grads[1].values()) > 3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'checkpointing': 'all'}, "'all' is unknown; write 'block'"),
        ({'checkpointing': ['block']}, '1 entries for 3 modules'),
        (
            {'boundaries': ['layer1.0'], 'checkpointing': ['block', None]},
            'module 1 of 2 of this ResNetV1c .* write None for it',
        ),
    ],
)
def test_refusals(helpers, options, message):
    with pytest.raises(ValueError, match=message):
        model_of(helpers, 'resnet18', **options)


def test_both_ways_of_checkpointing_are_refused(helpers):
    cfg = helpers.segmentor_cfg(NETS['resnet18'], with_cp=True)
    cfg['backbone']['checkpointing'] = 'selective'
    with pytest.raises(ValueError, match='with_cp=True, which means'):
        helpers.build(cfg)


def test_backbone_without_blocks_is_refused(helpers):
    @MODELS.register_module(force=True)
    class OneConv(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 8, 3)

    cfg = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.OneConv'},
        'checkpointing': 'block',
    }
    with pytest.raises(ValueError, match='OneConv has no list of blocks'):
        MODELS.build(cfg)
