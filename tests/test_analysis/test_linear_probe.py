"""A linear classifier on the features of modules."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmlocal.analysis import Features
from mmlocal.analysis.head_setting import HeadSetting
from mmlocal.analysis.linear_head import FeatureHead, SteppedHead
from mmlocal.analysis.linear_probe import LinearProbe
from mmlocal.analysis.seeded import hold_out, linear, seeded
from mmlocal.registry import MEASURES


def clusters(num, spread, seed=0, dim=16, classes=5, scale=1.0) -> Features:
    """Two modules: noise, then classes around centres; 'spread' apart."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    labels = rng.integers(0, classes, num)
    noise = rng.normal(size=(2, num, dim))
    held = scale * (centres[labels] + spread * noise[1])
    return Features(
        ['noise', 'classes'],
        [noise[0].astype('f'), held.astype('f')],
        labels,
    )


EASY = clusters(400, 0.05), clusters(400, 0.05, seed=1)
HARD = clusters(400, 2.0), clusters(400, 2.0, seed=1)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'protocol': 'gim', 'epochs': 30, 'lr': 1e-2},
        {'protocol': 'transfer', 'select': 'last', 'lr': 0.05},
        {'optimizer': 'sgd', 'lr': [1e-4, 1.0], 'epochs': 5},
    ],
)
def test_all_of_what_is_there_and_chance_of_what_is_not(settings):
    values = LinearProbe(**settings).measure(*EASY)
    noise, held = values['accuracy']
    assert held == 100
    assert abs(noise - 20) < 8  # of 400, four standard deviations
    assert values['train_accuracy'][1] == 100


def test_it_is_the_logistic_regression_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    train, val = HARD
    decay = 1e-2
    probe = LinearProbe(weight_decay=decay)
    head = FeatureHead(
        torch.from_numpy(train.values[1]),
        torch.from_numpy(train.labels),
        5,
        probe.head,
        seed=0,
    )
    for _ in head.epochs(torch.arange(400), None, decay):
        ours = head.logits(torch.from_numpy(val.values[1])).softmax(1)
    mean, std = train.values[1].mean(0), train.values[1].std(0)
    oracle = LogisticRegression(C=1 / (400 * decay), tol=1e-6, max_iter=1000)
    oracle.fit((train.values[1] - mean) / std, train.labels)
    theirs = oracle.predict_proba((val.values[1] - mean) / std)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    accuracy = probe.measure(train, val)['accuracy'][1]
    right = theirs.argmax(1) == val.labels
    assert abs(accuracy - 100 * right.mean()) < 0.6


def test_the_scale_of_features_is_no_matter():
    """Only the features are scaled, which standardizing undoes."""
    small = [clusters(300, 2.0, seed, scale=1e-3) for seed in (0, 1)]
    large = [clusters(300, 2.0, seed, scale=1e3) for seed in (0, 1)]
    probe = LinearProbe()
    one, other = probe.measure(*small), probe.measure(*large)
    assert one['weight_decay'] == other['weight_decay']
    np.testing.assert_allclose(one['accuracy'], other['accuracy'], atol=0.7)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {
            'optimizer': 'adam',
            'lr': [1e-3, 3e-2],
            'epochs': 8,
            'select': 'held_out',
        },
    ],
)
def test_the_choice_never_sees_the_test_labels(settings):
    train, val = HARD
    shuffled = Features(
        val.modules,
        val.values,
        np.random.default_rng(5).permutation(val.labels),
    )
    probe = LinearProbe(**settings)
    one, other = probe.measure(train, val), probe.measure(train, shuffled)
    assert one['accuracy'][1] > 50 > other['accuracy'][1]
    for values in one, other:
        del values['accuracy']
    assert one == other


def test_what_is_best_on_held_out_data_is_chosen():
    train, val = HARD
    probe = LinearProbe(optimizer='sgd', lr=[1e-6, 0.1, 1e4], epochs=5)
    assert probe.measure(train, val)['lr'][1] == 0.1
    strong = LinearProbe(weight_decay=[1e-2, 1e3]).measure(train, val)
    assert strong['weight_decay'][1] == 1e-2


def test_after_the_choice_all_data_are_trained_on():
    train, val = HARD
    setting = HeadSetting.of(
        'clean', optimizer='adam', lr=1e-2, epochs=9, select='held_out'
    )
    values = LinearProbe(
        optimizer='adam', lr=1e-2, epochs=9, select='held_out'
    ).measure(train, val)
    head = FeatureHead(
        torch.from_numpy(train.values[1]),
        torch.from_numpy(train.labels),
        5,
        setting,
        seed=0,
    )
    for epoch, _ in enumerate(head.epochs(torch.arange(400), 1e-2, 0), 1):
        if epoch == values['epoch'][1]:
            expected = head.score(torch.arange(400))
    assert values['train_accuracy'][1] == expected


def test_best_is_the_maximum_over_epochs():
    train, val = HARD
    kwargs = dict(optimizer='adam', lr=0.3, batch_size=64)
    every = [
        LinearProbe(epochs=n, **kwargs).measure(train, val)['accuracy'][1]
        for n in range(1, 7)
    ]
    best = LinearProbe(epochs=6, select='best', **kwargs).measure(train, val)
    assert best['accuracy'][1] == max(every) > every[-1]
    assert best['epoch'][1] == 1 + every.index(max(every))


def test_steps_are_those_of_torch():
    """Initialisation, order, schedule and optimizer, written out."""
    feats, labels = torch.from_numpy(HARD[0].values[1]), HARD[0].labels
    labels = torch.from_numpy(labels)
    setting = HeadSetting.of('transfer', epochs=4, batch_size=150)
    head = SteppedHead(16, 5, setting, seed=3)
    head.start(0.4, 5e-4, feats.device)
    for batches in head.orders(len(feats)):
        for rows in batches:
            head.step(feats[rows], labels[rows])

    layer = linear(16, 5, seeded(3, 0))
    optimizer = torch.optim.SGD(
        layer.parameters(), 0.4, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    generator = seeded(3, 1)
    for _ in range(4):
        for rows in torch.randperm(400, generator=generator).split(150):
            optimizer.zero_grad()
            F.cross_entropy(layer(feats[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
    torch.testing.assert_close(head.layer.weight, layer.weight)


def test_published_settings():
    gim = LinearProbe('gim').head
    assert (gim.optimizer, gim.pairs) == ('adam', [(1e-3, 0.0)])
    assert (gim.batch_size, gim.select) == (32, 'last')
    assert not gim.standardizes and not gim.chooses
    assert LinearProbe('audio_phones').head.init == 'xavier_normal'
    assert HeadSetting.of('transfer').pairs == [(0.4, 5e-4)]


def test_xavier_as_in_torch():
    ours = linear(300, 200, seeded(0), 'xavier_normal')
    theirs = torch.empty(200, 300)
    torch.nn.init.xavier_normal_(theirs, generator=seeded(0))
    torch.testing.assert_close(ours.weight.detach(), theirs)
    assert not ours.bias.any()


def test_random_numbers_are_its_own():
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    kwargs = dict(optimizer='adam', lr=[1e-2, 1e-3], epochs=2, seed=4)
    one = LinearProbe(**kwargs).measure(*HARD)
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
    torch.rand(3)
    with torch.no_grad():  # as in a hook, in the middle of validation
        assert LinearProbe(**kwargs).measure(*HARD) == one
    assert LinearProbe(**kwargs | {'seed': 5}).measure(*HARD) != one


def test_a_constant_feature_does_no_harm():
    train, val = (
        Features(['m'], [np.pad(f.values[1], ((0, 0), (0, 2)))], f.labels)
        for f in EASY
    )
    assert LinearProbe().measure(train, val)['accuracy'] == [100]


def test_held_out_is_of_all_classes_alike():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2])
    fit, held = hold_out(61, 0.2, seed=0, labels=labels)
    assert labels[held].bincount(minlength=3).tolist() == [10, 2, 0]
    assert sorted([*fit.tolist(), *held.tolist()]) == list(range(61))
    assert not torch.equal(hold_out(61, 0.2, 1, labels)[1], held)
    with pytest.raises(ValueError, match='holdout=0.2: of 2 samples none'):
        hold_out(2, 0.2, seed=0, labels=torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'protocol': 'gmi'}, "'gmi' is unknown"),
        ({'learning_rate': 1}, "no argument 'learning_rate'"),
        ({'optimizer': 'adam'}, 'write lr='),
        ({'lr': 1e-3}, "leave out lr and epochs, or write optimizer='adam'"),
        ({'optimizer': 'lamb'}, 'write one of'),
        ({'protocol': 'transfer', 'lr': [1, 2]}, "select='best' would"),
        ({'protocol': 'gim', 'epochs': 0}, '1 at least'),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LinearProbe(**settings)


def test_bad_features_are_refused():
    train, val = EASY
    unlabelled = Features(train.modules, train.values)
    with pytest.raises(ValueError, match='needs labels'):
        LinearProbe().measure(unlabelled, val)
    part = np.where(train.labels == 0, -100, train.labels)
    with pytest.raises(ValueError, match='some images have none'):
        LinearProbe().measure(Features(train.modules, train.values, part), val)
    broken = [train.values[0].copy(), train.values[1]]
    broken[0][3, 4] = np.inf
    with pytest.raises(ValueError, match='noise puts out values that are not'):
        LinearProbe().measure(
            Features(train.modules, broken, train.labels), val
        )
    maps = Features(['m'], [np.zeros((4, 2, 3, 3), 'f')], np.zeros(4, int))
    with pytest.raises(ValueError, match='SegmentationProbe'):
        LinearProbe().measure(maps, maps)


def test_it_is_found_by_name_and_tells_its_settings():
    import json

    probe = MEASURES.build({'type': 'LinearProbe', 'num_images': 50})
    assert probe.readings['train'].num_images == 50
    assert probe.readings['val'].num_images is None
    settings = probe.settings()
    assert settings['head']['optimizer'] == 'lbfgs'
    assert json.loads(json.dumps(settings)) == settings
