"""Batches of one pass after another."""

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from mmlocal.engine.loops.replay.stream import BatchStream


def loader(kind=DefaultSampler, batch_sampler=False, **kwargs):
    data = torch.arange(10)
    sampler = kind(data, shuffle=True, seed=5)
    if batch_sampler:
        sampler = BatchSampler(sampler, 4, drop_last=False)
        return DataLoader(data, batch_sampler=sampler, **kwargs)
    return DataLoader(data, batch_size=4, sampler=sampler, **kwargs)


def take(stream, count):
    return [next(stream).tolist() for _ in range(count)]


@pytest.mark.parametrize('batch_sampler', [True, False])
@pytest.mark.parametrize('num_workers', [0, 1])
def test_each_pass_is_an_epoch(batch_sampler, num_workers):
    """In the order of mmengine's loop, which sets the sampler's epoch."""
    data = loader(batch_sampler=batch_sampler, num_workers=num_workers)
    sampler = data.batch_sampler.sampler if batch_sampler else data.sampler
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected += [batch.tolist() for batch in data]
    stream = BatchStream(data)
    assert take(stream, 9) == expected
    assert expected[:3] != expected[3:6]
    assert stream.state_dict() == {'passes': 2, 'taken': 3}


@pytest.mark.parametrize('kind', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('done', [0, 2, 3, 7])
def test_a_state_goes_on(kind, done):
    expected = take(BatchStream(loader(kind)), 12)
    first, second = BatchStream(loader(kind)), BatchStream(loader(kind))
    take(first, done)
    second.load_state_dict(first.state_dict())
    assert take(second, 12 - done) == expected[done:]


def test_another_setting_of_the_epoch_does_not_disturb():
    """mmengine's hook sets it when an epoch of the run begins."""
    expected = take(BatchStream(loader()), 9)
    stream = BatchStream(loader())
    found = []
    for _ in range(9):
        found += take(stream, 1)
        stream.dataloader.sampler.set_epoch(7)
    assert found == expected
