"""What is handed out of modules that have trained already."""

import torch

from mmlocal.step import LocalStep, activate


def outputs_of_a_step(model, helpers):
    """Of the backbone, once its modules have trained."""
    step = LocalStep(backward=lambda loss: loss.backward())
    data = model.data_preprocessor(helpers.segmentation_batch(), True)
    step.inputs, step.data_samples = data['inputs'], data['data_samples']
    step.preprocessor = model.data_preprocessor
    with activate(step):
        return model.backbone(data['inputs'])


def test_outputs_of_finished_modules_are_detached(helpers):
    cfg = helpers.segmentor_cfg(['layer3.1'])
    model = helpers.build(cfg)
    outs = outputs_of_a_step(model, helpers)
    assert [out.grad_fn is not None for out in outs] == [
        False,
        False,
        True,
        True,
    ]
    sum(out.sum() for out in outs if out.requires_grad).backward()


def test_what_a_backbone_keeps_of_finished_modules_is_detached(helpers):
    """As the position bias that BEiT v2's neck reads off its backbone."""
    model = helpers.build(helpers.segmentor_cfg(['layer3.1']))
    inner = model.backbone.backbone
    for name in ('layer1', 'layer4'):
        inner.get_submodule(name).register_forward_hook(
            lambda layer, args, out, name=name: setattr(
                inner, f'of_{name}', out
            )
        )
    outs = outputs_of_a_step(model, helpers)
    assert torch.equal(inner.of_layer1, outs[0])
    assert not inner.of_layer1.requires_grad
    (inner.of_layer1.sum() + inner.of_layer4.sum()).backward()
    assert inner.layer4[1].bn2.bias.grad.any()
