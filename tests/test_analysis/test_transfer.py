"""A linear head on another data set."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate

from mmlocal.analysis import Extractor, Source, Taps
from mmlocal.analysis.features import Features
from mmlocal.analysis.linear_probe import LinearProbe
from mmlocal.analysis.seeded import linear, seeded
from mmlocal.analysis.session import measure_modules
from mmlocal.analysis.transfer import DriftingTransfer, TransferProbe

HEAD = dict(epochs=3, batch_size=16, lr=0.1)


def state(model):
    return copy.deepcopy(dict(model.state_dict()))


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_frozen_statistics_stay_bitwise(shapes_cfg, shapes_model, tmp_path):
    before = state(shapes_model)
    taps = Taps(shapes_model, boundaries=[])
    extractor = Extractor(shapes_model, taps, Source(shapes_cfg), tmp_path)
    probe = TransferProbe(device='cpu', **HEAD)
    values = measure_modules([probe], extractor)['transfer']
    assert same(before, shapes_model.state_dict())
    assert len(values['accuracy']) == 1
    assert values['epoch'][0] in (1, 2, 3)


def test_frozen_is_a_linear_probe_of_the_published_head():
    probe = TransferProbe(select='best')
    assert probe.head == LinearProbe('transfer').head
    assert TransferProbe().head.select == 'held_out'
    rng = np.random.default_rng(0)
    data = Features(
        ['m'], [rng.normal(size=(60, 4)).astype('f')], rng.integers(0, 3, 60)
    )
    plain = LinearProbe('transfer', select='last').measure(data, data)
    assert TransferProbe(select='last').measure(data, data) == plain


@pytest.mark.parametrize('select', ['last', 'best'])
@pytest.mark.slow
def test_batch_mode_is_a_plain_loop(shapes_cfg, shapes_model, select):
    """Training mode, only the head learns, statistics drift; then eval."""
    source = Source(shapes_cfg)
    taps = Taps(shapes_model, boundaries=[])
    probe = DriftingTransfer(select=select, **HEAD)
    shapes_model.eval()
    other = copy.deepcopy(shapes_model)
    before = state(shapes_model)
    values = probe.measure(shapes_model, taps, source)
    assert same(before, shapes_model.state_dict())

    backbone = other.backbone.backbone
    head = linear(64, 5, seeded(0, 0))
    optimizer = torch.optim.SGD(
        head.parameters(), 0.1, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)

    def batch(split, rows):
        dataset = source.dataset(split)
        data = pseudo_collate([dataset[int(row)] for row in rows])
        data = other.data_preprocessor(data, False)
        labels = torch.cat([each.gt_label for each in data['data_samples']])
        return data['inputs'], labels

    generator = seeded(0, 1)
    accuracies = []
    for _ in range(3):
        other.train()
        for rows in torch.randperm(40, generator=generator).split(16):
            images, labels = batch('train', rows)
            with torch.no_grad():
                feats = backbone(images)[-1].mean((2, 3))
            loss = F.cross_entropy(head(feats), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        other.eval()
        images, labels = batch('val', range(40))
        with torch.no_grad():
            predicted = head(backbone(images)[-1].mean((2, 3))).argmax(1)
        accuracies.append(100 * (predicted == labels).float().mean().item())
    assert not same(before, other.state_dict())  # they did drift
    expected = accuracies[-1] if select == 'last' else max(accuracies)
    assert values['accuracy'] == [pytest.approx(expected)]


@pytest.mark.slow
def test_batch_mode_leaves_modes_and_random_numbers(shapes_cfg, shapes_model):
    shapes_model.train()
    shapes_model.backbone.backbone.bn1.eval()
    modes = [module.training for module in shapes_model.modules()]
    random = torch.get_rng_state()
    taps = Taps(shapes_model, boundaries=[])
    probe = DriftingTransfer(num_images=20, epochs=2, batch_size=8)
    one = probe.measure(shapes_model, taps, Source(shapes_cfg))
    assert [module.training for module in shapes_model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    torch.rand(2)
    assert probe.measure(shapes_model, taps, Source(shapes_cfg)) == one
    for param in shapes_model.parameters():
        assert param.grad is None


def test_what_does_not_go_with_a_running_network_is_refused():
    with pytest.raises(ValueError, match='mini-batches'):
        DriftingTransfer(standardize=True)
    settings = DriftingTransfer().settings()
    assert settings['bn_mode'] == 'batch'
    assert settings['head']['epochs'] == 30
    assert TransferProbe().settings()['bn_mode'] == 'frozen'
