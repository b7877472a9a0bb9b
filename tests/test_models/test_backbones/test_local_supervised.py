from copy import deepcopy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.step import LocalStep, activate, to_pixels

CUTS = ['layer1.1', 'layer2.1', 'layer4.0']


def wrapper(model, kind=LocalOptimWrapper, lr=0.1, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return kind(optimizer=optimizer, **kwargs)


def gradients_of_a_step(model, batch, helpers, **kwargs):
    """Gradients that a training step accumulates (it does not update)."""
    wrap = wrapper(model, accumulative_counts=2, **kwargs)
    wrap.scale_loss = lambda loss: loss
    model.train_step(deepcopy(batch), wrap)
    return helpers.grads(model)


def joint_losses(model, batch):
    """Losses of all modules in one graph, cut by detach alone."""
    data = model.data_preprocessor(deepcopy(batch), True)
    inputs, samples = data['inputs'], data['data_samples']
    backbone, losses = model.backbone, []
    step = LocalStep(None, inputs, samples, model.data_preprocessor)

    def hook(head, module, args):
        with activate(step):
            losses.append(head.loss(args[0], inputs, samples))
        return (args[0].detach(), *args[1:])

    for name, head in zip(
        backbone.boundaries, backbone.local_heads, strict=True
    ):
        backbone.backbone.get_submodule(name).register_forward_pre_hook(
            lambda module, args, head=head: hook(head, module, args)
        )
    feats = backbone.backbone(inputs)
    losses.append(model.decode_head.loss(feats, samples, None))
    return [
        sum(value for key, value in each.items() if 'loss' in key)
        for each in losses
    ]


def test_sequential_backward_equals_one_joint_backward(helpers):
    """Gradient for gradient, bit for bit."""
    cfg, batch = helpers.segmentor_cfg(CUTS), helpers.segmentation_batch()
    model, oracle = helpers.build(cfg), helpers.build(cfg)
    torch.manual_seed(1)
    found = gradients_of_a_step(model, batch, helpers)
    torch.manual_seed(1)
    sum(joint_losses(oracle, batch)).backward()
    expected = helpers.grads(oracle)
    assert any(g is not None and g.abs().max() > 0 for g in expected.values())
    for name, gradient in expected.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            assert torch.equal(found[name], gradient), name
    for name, buffer in oracle.named_buffers():
        assert torch.equal(dict(model.named_buffers())[name], buffer), name


def test_no_loss_reaches_another_module(helpers):
    """Each parameter learns from exactly one loss."""
    model = helpers.build(helpers.segmentor_cfg(CUTS))
    losses = joint_losses(model, helpers.segmentation_batch())
    assert len(losses) == 4
    owners = {}
    parameters = dict(model.named_parameters())
    for index, loss in enumerate(losses):
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True
        )
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                owners.setdefault(name, []).append(index)
    assert set(owners) == set(parameters)
    assert all(len(found) == 1 for found in owners.values())
    inner = 'backbone.backbone.'
    assert owners[f'{inner}layer1.0.conv1.weight'] == [0]
    assert owners[f'{inner}layer1.1.conv1.weight'] == [1]
    assert owners[f'{inner}layer3.1.conv2.weight'] == [2]
    assert owners[f'{inner}layer4.0.conv1.weight'] == [3]
    assert owners['decode_head.conv_seg.weight'] == [3]


def test_without_boundaries_it_is_the_plain_backbone(helpers):
    """Loss for loss, over three steps under the plain OptimWrapper."""
    cfg = helpers.segmentor_cfg()
    plain_cfg = deepcopy(cfg)
    plain_cfg['backbone'] = plain_cfg['backbone']['backbone']
    local, plain = helpers.build(cfg), helpers.build(plain_cfg)
    plain.load_state_dict(local.state_dict())
    local_wrap, plain_wrap = wrapper(local), wrapper(plain, OptimWrapper)
    for seed in range(3):
        batch = helpers.segmentation_batch(seed=seed)
        logs = [
            model.train_step(deepcopy(batch), wrap)
            for model, wrap in ((local, local_wrap), (plain, plain_wrap))
        ]
        assert logs[0].keys() == logs[1].keys()
        for key, value in logs[0].items():
            assert torch.equal(value, logs[1][key]), key


def test_eval_equals_the_plain_backbone(helpers):
    """The same outputs, bit for bit, from the same checkpoint keys."""
    cfg = helpers.segmentor_cfg(CUTS)
    model = helpers.build(cfg)
    wrap = wrapper(model)
    model.train_step(helpers.segmentation_batch(), wrap)
    plain_cfg = deepcopy(cfg)
    plain_cfg['backbone'] = plain_cfg['backbone']['backbone']
    plain = helpers.build(plain_cfg, seed=5)

    state = model.state_dict()
    extra = {key for key in state if '.local_heads.' in key}
    assert extra
    missing = plain.load_state_dict(
        {key: value for key, value in state.items() if key not in extra}
    )
    assert not missing.missing_keys and not missing.unexpected_keys
    model.eval(), plain.eval()
    data = model.data_preprocessor(helpers.segmentation_batch(), False)
    with torch.no_grad():
        for ours, theirs in zip(
            model.extract_feat(data['inputs']),
            plain.extract_feat(data['inputs']),
            strict=True,
        ):
            assert torch.equal(ours, theirs)


def test_plain_checkpoint_loads_in(helpers):
    cfg = helpers.segmentor_cfg(CUTS)
    plain_cfg = deepcopy(cfg)
    plain_cfg['backbone'] = plain_cfg['backbone']['backbone']
    plain, model = helpers.build(plain_cfg), helpers.build(cfg, seed=3)
    result = model.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all('.local_heads.' in key for key in result.missing_keys)
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    model.load_state_dict(model.state_dict())


def test_pretrained_is_handed_to_the_inner_backbone(helpers, tmp_path):
    plain_cfg = helpers.segmentor_cfg()['backbone']['backbone']
    plain = helpers.build({**plain_cfg, '_scope_': 'mmseg'})
    path = tmp_path / 'plain.pth'
    torch.save({'state_dict': plain.state_dict()}, path)
    cfg = helpers.segmentor_cfg(CUTS)
    cfg['pretrained'] = str(path)
    model = helpers.build(cfg, seed=7)
    for name, value in plain.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name


def test_a_weight_that_two_modules_share(helpers):
    """Shared after the cut was checked: it gets both gradients."""
    cfg = helpers.segmentor_cfg(['layer1.1', 'layer4.1'])
    batch = helpers.segmentation_batch()
    model, oracle = helpers.build(cfg), helpers.build(cfg)
    for each in (model, oracle):
        first, last = each.backbone.backbone.layer4
        last.conv1.weight = first.conv2.weight
        # mmseg begins with 0, and no gradient of the weights before.
        nn.init.ones_(first.bn2.weight)
        nn.init.ones_(last.bn2.weight)
    torch.manual_seed(1)
    found = gradients_of_a_step(model, batch, helpers)
    torch.manual_seed(1)
    sum(joint_losses(oracle, batch)).backward()
    for name, value in helpers.grads(oracle).items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def test_norm_layers_at_the_outputs_train(helpers):
    """Swin normalizes each output: the decode head trains those layers."""
    inner = {
        'type': 'SwinTransformer',
        'embed_dims': 8,
        'depths': (1, 1, 1, 1),
        'num_heads': (1, 1, 2, 2),
        'window_size': 4,
        'out_indices': (0, 1, 2, 3),
    }
    cfg = helpers.segmentor_cfg(['stages.2.blocks.0'])
    cfg['backbone']['backbone'] = inner
    cfg['decode_head'] |= {
        'in_channels': [8, 16, 32, 64],
        'in_index': [0, 1, 2, 3],
        'input_transform': 'resize_concat',
    }
    batch = helpers.segmentation_batch()
    model, oracle = helpers.build(cfg), helpers.build(cfg)
    _fix_dropout(model), _fix_dropout(oracle)
    found = gradients_of_a_step(model, batch, helpers)

    # The oracle cuts at the input of each layer.
    swin = oracle.backbone.backbone
    for layer in (swin.norm0, swin.norm1):
        layer.register_forward_pre_hook(lambda layer, args: args[0].detach())
    sum(joint_losses(oracle, batch)).backward()
    expected = helpers.grads(oracle)
    assert found['backbone.backbone.norm0.weight'].any()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


def _fix_dropout(model):
    for module in model.modules():
        if 'Drop' in type(module).__name__:
            module.eval()


def test_each_batch_is_normalized_once(helpers):
    """By BatchNorm, with checkpointing inside of modules and without."""
    buffers = []
    for with_cp in (False, True):
        model = helpers.build(helpers.segmentor_cfg(CUTS, with_cp=with_cp))
        model.backbone.local_heads.apply(_without_dropout)
        wrap = wrapper(model)
        for seed in range(3):
            batch = helpers.segmentation_batch(seed=seed)
            model.train_step(batch, wrap)
        counts = {
            int(module.num_batches_tracked)
            for module in model.modules()
            if isinstance(module, nn.BatchNorm2d)
        }
        assert counts == {3}
        buffers.append(dict(model.named_buffers()))
    for name, buffer in buffers[0].items():
        assert torch.allclose(buffers[1][name], buffer, atol=1e-6), name


def _without_dropout(module):
    if isinstance(module, nn.Dropout2d):
        module.p = 0.0


def test_training_needs_a_local_step(helpers):
    model = helpers.build(helpers.segmentor_cfg(CUTS))
    with pytest.raises(RuntimeError, match='mmlocal.LocalOptimWrapper'):
        model.train_step(
            helpers.segmentation_batch(), wrapper(model, OptimWrapper)
        )


def test_local_values_reach_the_step_log(helpers):
    model = helpers.build(helpers.segmentor_cfg(CUTS))
    wrap = wrapper(model)
    log = model.train_step(helpers.segmentation_batch(), wrap)
    assert 'decode.loss_ce' in log
    assert set(wrap.step_log) == {
        f'local_{i}.{key}'
        for i in range(3)
        for key in ('loss_recon', 'loss_task', 'acc')
    }
    assert not any(value.requires_grad for value in wrap.step_log.values())


@pytest.mark.parametrize(
    ('boundaries', 'message'),
    [
        (['layer3.7'], r"cannot cut before 'layer3.7': .*no such.*layer3\.0"),
        (['layer4.0', 'layer2.0'], r"write \['layer2.0', 'layer4.0'\]"),
        (['layer2.1.conv2'], 'a path goes around it'),
        (['layer2', 'layer2.0'], 'cut at the same place'),
        (['layer2.0', 'layer2.0'], 'cut at the same place'),
        (['stem.0'], 'first module would be empty'),
        ({'type': 'mmlocal.Halves'}, r"no partition 'mmlocal.Halves'"),
    ],
)
def test_boundary_errors_name_the_key(helpers, boundaries, message):
    with pytest.raises(ValueError, match=message) as error:
        helpers.build(helpers.segmentor_cfg(boundaries))
    assert 'boundaries' in str(error.value)


@pytest.mark.parametrize(
    ('boundaries', 'names'),
    [
        ('layer3.0', ['layer3.0']),
        ({'type': 'EqualDepth', 'num_modules': 3}, ['layer2.0', 'layer3.1']),
        # 19 layers: 9 before layer2.1, 10 from there on.
        ({'type': 'mmlocal.EqualDepth', 'num_modules': 2}, ['layer2.1']),
    ],
)
def test_ways_to_write_boundaries(helpers, boundaries, names):
    model = helpers.build(helpers.segmentor_cfg(boundaries))
    assert model.backbone.boundaries == names
    assert [head.boundary.name for head in model.backbone.local_heads] == names


def test_wrong_number_of_heads(helpers):
    head = {'type': 'mmlocal.GreedyHead', 'num_classes': 4}
    cfg = helpers.segmentor_cfg(CUTS, local_heads=[head, head])
    with pytest.raises(ValueError, match='local_heads has 2 heads for 3'):
        helpers.build(cfg)
    cfg['backbone']['local_heads'] = None
    with pytest.raises(ValueError, match='local_heads is missing'):
        helpers.build(cfg)


def test_a_head_of_another_library_must_be_wrapped(helpers):
    head = {'type': 'FCNHead', 'in_channels': 8, 'channels': 4}
    cfg = helpers.segmentor_cfg(['layer2.0'], local_heads=head)
    with pytest.raises(ValueError, match=r"type='mmlocal.TaskHead'"):
        helpers.build(cfg)


def test_batch_of_one_with_batchnorm_in_the_head(helpers):
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'VGG', 'depth': 11},
        'boundaries': ['features.2'],
        'local_heads': {
            'type': 'mmlocal.DGLHead',
            'net': 'mlp',
            'num_classes': 10,
        },
    }
    model = helpers.build(helpers.classifier_cfg(backbone, 512))
    batch = helpers.classification_batch(size=1)
    with pytest.raises(ValueError, match='train_dataloader.batch_size'):
        model.train_step(batch, wrapper(model))


def test_label_outside_the_classes(helpers):
    model = helpers.build(helpers.segmentor_cfg(['layer2.0']))
    batch = helpers.segmentation_batch()
    batch['data_samples'][0].gt_sem_seg.data[0, 0, 0] = 9
    with pytest.raises(ValueError, match='local_heads.num_classes'):
        model.train_step(batch, wrapper(model))


def test_pixels_are_the_unnormalized_input(helpers):
    """The reconstruction target, in the network's channel order."""
    model = helpers.build(helpers.segmentor_cfg())
    batch = helpers.segmentation_batch()
    data = model.data_preprocessor(deepcopy(batch), True)
    pixels = to_pixels(data['inputs'], model.data_preprocessor)
    expected = torch.stack(batch['inputs']).flip(1) / 255
    assert torch.allclose(pixels, expected, atol=1e-6)
    assert pixels.min() >= 0 and pixels.max() <= 1


@pytest.mark.slow
def test_compile_cfg(helpers):
    cfg = helpers.segmentor_cfg(['layer3.0'])
    batch = helpers.segmentation_batch()
    eager = helpers.build(cfg)
    torch.manual_seed(1)
    expected = gradients_of_a_step(eager, batch, helpers)
    cfg['backbone']['compile_cfg'] = {
        'modules': ['layer1', 'layer3'],
        'backend': 'eager',
    }
    compiled = helpers.build(cfg)
    torch.manual_seed(1)
    found = gradients_of_a_step(compiled, batch, helpers)
    for name, gradient in expected.items():
        if gradient is not None:
            assert torch.allclose(found[name], gradient, atol=1e-6), name
    cfg['backbone']['compile_cfg']['modules'] = ['layer9']
    with pytest.raises(ValueError, match="compile_cfg.modules: .*'layer9'"):
        helpers.build(cfg)


def test_predict_local_is_what_heads_see(helpers):
    model = helpers.build(helpers.segmentor_cfg(CUTS)).eval()
    images = torch.randn(2, 3, 32, 32)
    found = model.backbone.predict_local(images)
    assert len(found) == 3
    for prediction in found:
        assert prediction['reconstruction'].shape == (2, 3, 32, 32)
        assert prediction['logits'].shape[:2] == (2, 4)
