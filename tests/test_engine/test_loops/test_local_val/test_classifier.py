"""The modules of a classifier are read out in its one forward."""

from copy import deepcopy

import pytest
import torch
from mmengine.model import BaseTTAModel

CUTS = ['layer2.0', 'layer3.0']
HEAD = {'type': 'mmlocal.GreedyHead', 'num_classes': 10}
CONTRAST = {**HEAD, 'loss': 'contrast'}
STOCK = {'val': 'ValLoop', 'test': 'TestLoop'}
ACCURACY = [
    {'type': 'Accuracy', 'topk': (1, 3)},
    {'type': 'mmlocal.PerModuleAccuracy', 'topk': (1, 3)},
]


@pytest.fixture
def classifier(helpers, settle):
    def classifier(**backbone):
        cfg = helpers.classifier_cfg(
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
        return settle(helpers.build(cfg))

    return classifier


@torch.no_grad()
def class_scores(model, batch):
    """Each truncated network and its head, run one by one."""
    data = model.data_preprocessor(deepcopy(batch), False)
    backbone, inputs = model.backbone, data['inputs']
    scores = []
    for index in range(backbone.num_modules):
        feat = inputs
        for before in range(index + 1):
            feat = backbone.chain.run(before, feat)
        if index in backbone.module_heads:
            logits = backbone.local_heads[index](feat, inputs)
        else:
            logits = model.head(model.neck((feat,)))
        scores.append(logits.softmax(1))
    return scores


def top(scores, batch, k):
    labels = torch.cat([each.gt_label for each in batch['data_samples']])
    hits = (scores.topk(k, 1).indices == labels[:, None]).any(1)
    return 100 * hits.float().mean().item()


@pytest.fixture
def images(helpers):
    return helpers.classification_batch(size=12)


@pytest.mark.parametrize('stage', ['val', 'test'])
def test_classifier(run, classifier, images, stage):
    model = classifier()
    found, kept = run(model, images, ACCURACY, stage, 5)
    one, two, three = class_scores(model.eval(), images)
    expected = {
        'module_1': one,
        'module_2': two,
        'ensemble_2': (one + 2 * two) / 3,
        'module_3': three,
        'ensemble_3': (one + 2 * two + 4 * three) / 7,
    }
    assert [*kept[0]['read_outs']] == [*expected]
    for name, scores in expected.items():
        for k in 1, 3:
            value = found.pop(f'{name}/accuracy/top{k}')
            assert value == pytest.approx(top(scores, images, k))
        if name != 'module_3':
            fields = [each['read_outs'][name] for each in kept]
            torch.testing.assert_close(
                torch.stack([each['pred_score'] for each in fields]), scores
            )
            labels = torch.cat([each['pred_label'] for each in fields])
            assert (labels == scores.argmax(1)).all()
    # What is left is what the stock loop gives.
    stock, plain = run(
        model, images, ACCURACY[:1], stage, 5, type=STOCK[stage]
    )
    assert found == stock
    for one, other in zip(kept, plain, strict=True):
        assert torch.equal(one['pred_score'], other['pred_score'])


@pytest.mark.parametrize('kind', ['logit', None])
def test_other_ensembles(run, classifier, images, kind):
    model = classifier()
    _, kept = run(model, images, ACCURACY, ensemble=kind)
    logits = [scores.log() for scores in class_scores(model.eval(), images)]
    assert ('ensemble_3' in kept[0]['read_outs']) == (kind is not None)
    if kind:
        mean = (logits[0] + 2 * logits[1] + 4 * logits[2]) / 7
        found = [each['read_outs']['ensemble_3'] for each in kept]
        torch.testing.assert_close(
            torch.stack([each['pred_score'] for each in found]),
            mean.softmax(1),
        )


def test_unknown_ensemble(run, classifier, images):
    with pytest.raises(ValueError, match='test_cfg.ensemble'):
        run(classifier(), images, [], 'test', ensemble='x')


def test_forward_is_one_and_decodes_nothing(run, classifier, images):
    head = {'type': 'mmlocal.InfoProHead', 'num_classes': 10}
    model = classifier(local_heads=head)
    calls = []
    for part in (model.backbone.backbone, model.head):
        part.register_forward_hook(lambda *args: calls.append('model'))
    for local in model.backbone.local_heads:
        local.task.net.register_forward_hook(lambda *a: calls.append('task'))
        local.decoder.register_forward_hook(lambda *a: calls.append('decode'))
    found, _ = run(model, images, ACCURACY, batch_size=6)
    assert calls == ['task', 'task', 'model', 'model'] * 2
    assert 'module_1/accuracy/top1' in found


def test_heads_without_classes_are_left_out(run, classifier, images, log):
    model = classifier(local_heads=[CONTRAST, HEAD])
    found, kept = run(model, images, ACCURACY)
    _, *scores = class_scores(model.eval(), images)
    assert [*kept[0]['read_outs']] == ['module_2', 'module_3', 'ensemble_3']
    expected = top((scores[0] + 2 * scores[1]) / 3, images, 1)
    assert found['ensemble_3/accuracy/top1'] == pytest.approx(expected)
    text = log.text
    assert text.count('module 1: the local head predicts no classes') == 1
    assert 'module 2' not in text


def test_of_two_backbones_the_first_is_read_out(run, classifier, images, log):
    model, other = classifier(), classifier(boundaries=CUTS[:1])
    model.second = other.backbone
    _, samples = run(model, images, [], batch_size=4)
    names = [name for name in samples[0]['read_outs'] if 'module' in name]
    assert names == ['module_1', 'module_2', 'module_3']
    assert log.text.count('those of second are not') == 1


def test_local_end(run, classifier, images):
    """The last module's own head, not the probe behind it."""
    model = classifier(local_end=True)
    found, kept = run(model, images, ACCURACY)
    scores = class_scores(model.eval(), images)
    kept_scores = [
        each['read_outs']['module_3']['pred_score'] for each in kept
    ]
    torch.testing.assert_close(torch.stack(kept_scores), scores[2])
    value = found['module_3/accuracy/top3']
    assert value == pytest.approx(top(scores[2], images, 3))
    probe = torch.stack([each['pred_score'] for each in kept])
    assert not torch.allclose(probe, scores[2])


def test_local_end_without_classes(run, classifier, images):
    """Only the probe tells something of the last module."""
    heads = [CONTRAST] * 3
    model = classifier(local_end=True, local_heads=heads)
    found, kept = run(model, images, ACCURACY)
    assert [*kept[0]['read_outs']] == ['module_3']
    assert found['module_3/accuracy/top3'] == found['accuracy/top3']


def test_one_module(run, classifier, images):
    model = classifier(boundaries=(), local_heads=None)
    found, _ = run(model, images, ACCURACY)
    assert found.pop('module_1/accuracy/top1') == found.pop('accuracy/top1')
    assert found.pop('module_1/accuracy/top3') == found.pop('accuracy/top3')
    assert not found


def test_plain_backbone(run, helpers, images):
    inner = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    model = helpers.build(helpers.classifier_cfg(inner, 64))
    found, _ = run(model, images, ACCURACY)
    assert {*found} == {'accuracy/top1', 'accuracy/top3'}


@pytest.mark.parametrize('only', [0, 1, 2])
def test_one_module_in_training(run, classifier, images, only):
    """Stock metrics see the module that trains, and nothing runs behind."""
    model = classifier()
    model.backbone.train_only(only)
    ran = []
    for name in 'layer1', 'layer2', 'layer3':
        model.backbone.backbone.get_submodule(name).register_forward_hook(
            lambda *args, name=name: ran.append(name)
        )
    found, kept = run(model, images, ACCURACY, batch_size=12)
    assert ran == ['layer1', 'layer2', 'layer3'][: only + 1]
    scores = class_scores(model.eval(), images)
    own = torch.stack([each['pred_score'] for each in kept])
    torch.testing.assert_close(own, scores[only])
    labels = torch.cat([each['pred_label'] for each in kept])
    assert (labels == scores[only].argmax(1)).all()
    names = [f'module_{i + 1}' for i in range(only + 1)]
    assert [n for n in kept[0]['read_outs'] if 'module' in n] == names
    for k in 1, 3:
        value = found[f'accuracy/top{k}']
        assert value == pytest.approx(top(scores[only], images, k))
        assert value == found[f'module_{only + 1}/accuracy/top{k}']


def test_one_module_in_training_that_predicts_nothing(run, classifier, images):
    model = classifier(local_heads=CONTRAST)
    model.backbone.train_only(1)
    with pytest.raises(ValueError, match=r'module 2 .*val_begin'):
        run(model, images, ACCURACY)


def test_half_precision(run, classifier, images):
    model = classifier()
    found, kept = run(model, images, ACCURACY, fp16=True)
    stock, plain = run(model, images, ACCURACY[:1], fp16=True, type='ValLoop')
    assert {key: found[key] for key in stock} == stock
    _, full = run(model, images, ACCURACY)
    for one, other, precise in zip(kept, plain, full, strict=True):
        assert torch.equal(one['pred_score'], other['pred_score'])
        for name, fields in one['read_outs'].items():
            if name != 'module_3':
                score = precise['read_outs'][name]['pred_score']
                assert fields['pred_score'].dtype == torch.float32
                assert not torch.equal(fields['pred_score'], score)
                assert torch.allclose(fields['pred_score'], score, atol=0.1)


def test_test_time_augmentation_is_left_alone(run, classifier, images):
    class Views(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return [views[0] for views in data_samples_list]

    model = Views(classifier())
    images = {key: [[v] for v in value] for key, value in images.items()}
    found, kept = run(model, images, ACCURACY, 'test')
    assert {*found} == {'accuracy/top1', 'accuracy/top3'}
    assert kept[0]['read_outs'] == {}
