"""Modules that train, run or read out alone."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.step import LocalBackbone, Stopped, local_backbone

CUTS = ['layer2.0', 'layer3.0']
HEAD = {'type': 'mmlocal.GreedyHead', 'num_classes': 10}


def model_cfg(helpers, **backbone):
    return helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
            'boundaries': CUTS,
            'local_heads': HEAD,
            'input_shape': (3, 32, 32),
            **backbone,
        },
        channels=64,
    )


def wrapper(model, kind=LocalOptimWrapper, **kwargs):
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01
    )
    return kind(optimizer=optimizer, **kwargs)


def steps(model, batch, wrap, count=2):
    """Training steps; how many were stopped behind a module."""
    stopped = 0
    for _ in range(count):
        try:
            model.train_step(deepcopy(batch), wrap)
        except Stopped:
            wrap.finish()
            stopped += 1
    return stopped


def changed(before, model):
    """Names of parts of the state that differ, up to the second dot."""
    return {
        '.'.join(name.split('.')[:3])
        for name, value in model.state_dict().items()
        if not torch.equal(before[name], value)
    }


# What belongs to each module, with its head.
OWN = [
    {'backbone.conv1', 'backbone.bn1', 'backbone.layer1', 'local_heads.0'},
    {'backbone.layer2', 'local_heads.1'},
    {'backbone.layer3', 'head.fc'},
]


@pytest.mark.parametrize('index', range(3))
@pytest.mark.parametrize('kind', [LocalOptimWrapper, LocalAmpOptimWrapper])
def test_only_one_module_changes(helpers, index, kind):
    model = helpers.build(model_cfg(helpers))
    before = deepcopy(model.state_dict())
    model.backbone.train_only(index)
    model.train()
    wrap = wrapper(model, kind)
    stopped = steps(model, helpers.classification_batch(), wrap)
    assert stopped == (2 if index < 2 else 0)
    found = changed(before, model)
    assert found
    for name in found:
        assert any(part in name for part in OWN[index]), name
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.training for norm in norms} == {False, True}


def test_what_is_frozen_trains_again(helpers):
    model = helpers.build(model_cfg(helpers))
    asked = {n: p.requires_grad for n, p in model.named_parameters()}
    frozen = model.backbone.backbone.layer1[0].conv1.weight
    frozen.requires_grad_(False)
    asked['backbone.backbone.layer1.0.conv1.weight'] = False
    for index in (1, 0, None):
        model.backbone.train_only(index)
        assert not frozen.requires_grad
    assert {n: p.requires_grad for n, p in model.named_parameters()} == asked
    assert all(module.training for module in model.modules())


def test_frozen_until_the_cut_inside_of_a_stage(helpers):
    """A module may end in the middle of a stage."""
    model = helpers.build(
        model_cfg(
            helpers,
            backbone={'type': 'mmlocal.CIFARResNet', 'depth': 14},
            boundaries=['layer2.1'],
        )
    )
    model.backbone.train_only(1)
    stage = model.backbone.backbone.layer2
    assert [block.training for block in stage] == [False, True]
    assert [block.conv1.weight.requires_grad for block in stage] == [
        False,
        True,
    ]


def test_a_class_token_belongs_to_the_module_that_reads_it(helpers):
    cfg = helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {
                'type': 'VisionTransformer',
                'arch': {
                    'embed_dims': 16,
                    'num_layers': 3,
                    'num_heads': 2,
                    'feedforward_channels': 32,
                },
                'img_size': 32,
                'patch_size': 8,
            },
            'boundaries': ['layers.1'],
            'local_heads': HEAD,
            'input_shape': (3, 32, 32),
        },
        channels=16,
    )
    cfg['neck'] = None
    cfg['head']['type'] = 'VisionTransformerClsHead'
    model = helpers.build(cfg)
    inner = model.backbone.backbone
    model.backbone.train_only(1)
    assert not inner.cls_token.requires_grad
    assert inner.ln1.weight.requires_grad
    model.backbone.train_only(0)
    assert inner.cls_token.requires_grad
    assert not inner.ln1.weight.requires_grad


def test_alone_equals_the_whole(helpers):
    """Run one after the other from their inputs, modules learn the same."""
    whole, apart = (helpers.build(model_cfg(helpers)) for _ in range(2))
    batch = helpers.classification_batch()
    steps(whole, batch, wrapper(whole), count=1)

    wrap, backbone = wrapper(apart), apart.backbone
    feat = apart.data_preprocessor(deepcopy(batch), True)['inputs']
    for index in range(3):
        with torch.no_grad():
            # Its running statistics must not move twice.
            following = deepcopy(backbone.chain).run(index, feat)
        with backbone.alone(index, feat if index else None):
            assert steps(apart, batch, wrap, count=1) == (index < 2)
        feat = following
    for name, value in whole.state_dict().items():
        assert torch.equal(apart.state_dict()[name], value), name


def test_alone_wants_the_right_input(helpers):
    backbone = helpers.build(model_cfg(helpers)).backbone
    for index, feat, message in [
        (3, None, 'there is no module 3'),
        (1, None, 'module 1 takes a feature'),
        (0, torch.zeros(1), "module 0 takes the forward's own input"),
    ]:
        with (
            pytest.raises(ValueError, match=message),
            backbone.alone(index, feat),
        ):
            pass


def test_reading_out(helpers):
    """What heads see of truncated networks; nothing trains or moves."""
    model = helpers.build(model_cfg(helpers))
    before = deepcopy(model.state_dict())
    backbone = model.backbone.eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        with backbone.reading_out() as found:
            outputs = backbone(images)
        assert torch.equal(outputs[0], backbone.backbone(images)[0])
        feat = images
        for index, prediction in enumerate(found[0]):
            feat = backbone.chain.run(index, feat)
            expected = backbone.local_heads[index].net(feat)
            assert torch.equal(prediction['logits'], expected)
        with backbone.reading_out(0) as found, pytest.raises(Stopped):
            backbone(images)
        assert len(found[0]) == 1
    assert not changed(before, model)


def test_reading_out_within_reading_out(helpers):
    """What a model reads for itself, the loop around it reads too."""
    backbone = helpers.build(model_cfg(helpers)).backbone.eval()
    images = torch.randn(2, 3, 32, 32)
    alone = backbone.predict_local(images)
    with backbone.reading_out(0, logits_only=True) as found:
        for size in (1, 2):
            inner = backbone.predict_local(images[:size])
            assert len(inner) == 1 and inner is found[-1]
    assert len(found) == 2 and len(alone) == 2
    assert torch.equal(inner[0]['logits'], alone[0]['logits'])
    assert len(backbone.predict_local(images)) == 2


def test_what_the_engine_sees(helpers):
    model = helpers.build(model_cfg(helpers))
    assert local_backbone(model) is model.backbone
    assert isinstance(model.backbone, LocalBackbone)
    assert local_backbone(model.backbone.backbone) is None
    assert model.backbone.num_modules == 3
    assert list(model.backbone.boundary_modules) == CUTS


def test_a_local_head_at_the_end(helpers):
    """The last module learns from it alone, the model's head from the model's
    loss alone."""
    model = helpers.build(model_cfg(helpers, local_end=True))
    backbone = model.backbone
    ends = [head.boundary for head in backbone.local_heads]
    assert [end.name for end in ends] == [*CUTS, 'end']
    assert (ends[-1].channels, ends[-1].stride) == (64, 4)
    assert {end.count for end in ends} == {3}
    oracle = deepcopy(model)
    batch = helpers.classification_batch()
    wrap = wrapper(model, accumulative_counts=2)
    model.train_step(deepcopy(batch), wrap)
    data = oracle.data_preprocessor(deepcopy(batch), True)
    inputs, samples = data['inputs'], data['data_samples']
    feat = oracle.backbone.chain.run(0, inputs)
    for index in range(3):
        losses = oracle.backbone.local_heads[index].loss(feat, inputs, samples)
        (losses['loss_task'] / 2).backward()
        if index < 2:
            feat = oracle.backbone.chain.run(index + 1, feat.detach())
    pooled = oracle.neck((feat.detach(),))
    (oracle.head.loss(pooled, samples)['loss'] / 2).backward()
    expected = helpers.grads(oracle)
    for name, grad in helpers.grads(model).items():
        assert torch.equal(grad, expected[name]), name


def test_one_module_without_a_boundary(helpers):
    """K = 1 with a local head: all that the model's own head does is read."""
    cfg = model_cfg(helpers, boundaries=[], local_end=True)
    model = helpers.build(cfg)
    wrap = wrapper(model)
    model.train_step(helpers.classification_batch(), wrap)
    assert {*wrap.step_log} == {'local_0.loss_task', 'local_0.acc'}


def test_a_vector_at_the_end(helpers):
    """The class token of a ViT."""
    cfg = model_cfg(helpers, boundaries=['layers.6'], local_end=True)
    cfg['backbone']['backbone'] = {
        'type': 'VisionTransformer',
        'arch': 'deit-t',
        'img_size': 32,
    }
    cfg['neck'] = None
    cfg['head']['in_channels'] = 192
    model = helpers.build(cfg)
    ends = [head.boundary for head in model.backbone.local_heads]
    assert [end.layout for end in ends] == ['tokens', 'vector']
    wrap = wrapper(model)
    model.train_step(helpers.classification_batch(), wrap)
    assert 'local_1.loss_task' in wrap.step_log


def test_an_end_that_no_head_can_read(helpers):
    cfg = model_cfg(helpers, boundaries=[], local_end=True)
    cfg['backbone']['backbone'] = {
        'type': 'VisionTransformer',
        'arch': 'deit-t',
        'img_size': 32,
        'out_type': 'featmap',
        'patch_size': 16,
    }
    cfg['backbone']['input_shape'] = (3, 32, 64)
    with pytest.raises(ValueError, match="local_end.*out_type='raw'"):
        helpers.build(cfg)
