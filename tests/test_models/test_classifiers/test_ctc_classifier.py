"""Beside whole runs, which test_ctc_stage_hook.py has."""

import pytest
import torch

from mmlocal.models.heads.ctc_head import PRESETS


@pytest.fixture
def cfg(helpers):
    backbone = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    cfg = helpers.classifier_cfg(backbone, 64, num_classes=3)
    cfg['type'] = 'mmlocal.CTCClassifier'
    cfg['head'].update(
        type='mmlocal.CTCHead', num_images=6, embed_dim=4, num_negatives=2
    )
    return cfg


def batch(helpers, size=4):
    data = helpers.classification_batch(size, side=16, num_classes=3)
    for index, sample in enumerate(data['data_samples']):
        sample.set_metainfo({'sample_idx': index})
    return data


def losses(model, data):
    data = model.data_preprocessor(data, True)
    return model(**data, mode='loss')


def test_it_predicts_as_the_plain_classifier_with_its_weights(cfg, helpers):
    model = helpers.build(cfg).eval()
    plain = helpers.classifier_cfg(cfg['backbone'], 64, num_classes=3)
    plain = helpers.build(plain, seed=1).eval()
    keys = plain.load_state_dict(model.state_dict(), strict=False)
    assert not keys.missing_keys
    left = {key.split('.')[0] for key in keys.unexpected_keys}
    assert left == {'head', 'info_bank'}
    x = torch.randn(2, 3, 16, 16)
    assert model(x).equal(plain(x))
    # Initialized as by torch, not with N(0, 0.01).
    assert model.head.fc.weight.std() > 0.05


def test_presets(cfg, helpers):
    published = {
        'transferability': (0.5, 1, 0.1, 0.9, 0.1, 0.9),
        'discriminability': (0.1, 1, 0.5, 0.9, 0.4, 0.9),
    }
    assert set(PRESETS) == set(published)
    for name, values in published.items():
        cfg['head']['preset'] = name
        assert settings(helpers.build(cfg).head) == values
    cfg['head'].update(contrast_temperature=0.07, instance_momentum=0.0)
    found = settings(helpers.build(cfg).head)
    assert found == (0.1, 1, 0.5, 0.0, 0.07, 0.9)
    cfg['head']['preset'] = 'both'
    with pytest.raises(ValueError, match="preset='both' is unknown"):
        helpers.build(cfg)


def settings(head):
    instance, contrast = head.instance_loss, head.contrast_loss
    assert contrast.memory_w.momentum == contrast.memory_v.momentum
    return (
        head.instance_weight,
        head.contrast_weight,
        instance.temperature,
        instance.memory.momentum,
        contrast.temperature,
        contrast.memory_v.momentum,
    )


def test_weights_of_the_losses(cfg, helpers):
    values = []
    for factor in (1, 3):
        cfg['head'].update(instance_weight=factor, contrast_weight=2 * factor)
        model = helpers.build(cfg)
        model.begin_training(torch.tensor([0, 1, 2, 0, 1, 2]))
        first = losses(model, batch(helpers))
        model.write_memories()
        model.take_snapshot()
        model.stage = 2
        model.seed_draw(5)
        second = losses(model, batch(helpers))
        values.append((first, second))
    (first, second), (first_3, second_3) = values
    assert set(first) == {'loss_cls', 'loss_instance'}
    assert set(second) == {'loss_cls', 'loss_contrast'}
    torch.testing.assert_close(
        first_3['loss_instance'], 3 * first['loss_instance']
    )
    torch.testing.assert_close(
        second_3['loss_contrast'], 3 * second['loss_contrast']
    )


def test_gradients_of_the_second_stage(cfg, helpers):
    """To the network and both embedders, not to snapshot and projector."""
    model = helpers.build(cfg)
    model.begin_training(torch.tensor([0, 1, 2, 0, 1, 2]))
    model.take_snapshot()
    model.stage = 2
    before = {
        key: value.clone()
        for key, value in model.info_bank.state_dict().items()
    }
    losses(model, batch(helpers))['loss_contrast'].backward()
    reached = {k for k, p in model.named_parameters() if p.grad is not None}
    assert 'backbone.conv1.weight' in reached
    assert {k for k in reached if k.startswith('head.')} == {
        f'head.{name}.{part}'
        for name in ('embed', 'bank_embed')
        for part in ('weight', 'bias')
    }
    assert not [key for key in reached if key.startswith('info_bank')]
    for key, value in model.info_bank.state_dict().items():
        assert value.equal(before[key])


def test_without_a_neck(cfg, helpers):
    """The snapshot is what the classifier reads."""
    cfg.pop('neck')
    cfg['backbone'] = {'type': 'mmpretrain.LeNet5', 'num_classes': -1}
    cfg['head']['in_channels'] = 120
    model = helpers.build(cfg)
    model.take_snapshot()
    x = torch.randn(2, 1, 32, 32)
    assert model.info_bank(x)[-1].equal(model.extract_feat(x)[-1])


@pytest.mark.parametrize('kind', ['gt_score', 'sample_idx'])
def test_what_images_must_have(cfg, helpers, kind):
    model, data = helpers.build(cfg), batch(helpers)
    if kind == 'gt_score':
        for sample in data['data_samples']:
            sample.set_gt_score([0.5, 0.5, 0])
        message = 'remove Mixup and CutMix'
    else:
        data = helpers.classification_batch(4, side=16, num_classes=3)
        message = "add 'sample_idx'"
    with pytest.raises(ValueError, match=message):
        losses(model, data)
