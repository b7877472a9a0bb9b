"""How modules and ranks are divided, and what is sent between them."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import IterBasedTrainLoop, ValLoop

from mmlocal.engine.distributed.messages import _pack, _unpack
from mmlocal.engine.distributed.stage_checks import run_problems
from mmlocal.engine.distributed.stages import number_of_stages, sizes_of
from mmlocal.engine.hooks import LocalCheckpointHook
from mmlocal.engine.loops import SequentialIterTrainLoop

CPU = torch.device('cpu')


@pytest.mark.parametrize(
    ('stages', 'modules', 'ranks', 'expected'),
    [
        (None, 2, 2, [1, 1]),
        (None, 2, 6, [1, 1]),
        (None, 4, 2, None),
        (2, 4, 8, None),
        ([3, 1], 4, 2, [3, 1]),
        (4, 4, 4, [1, 1, 1, 1]),
        (1, 4, 3, [4]),
    ],
)
def test_sizes(stages, modules, ranks, expected):
    assert sizes_of(stages, modules, ranks) == expected


@pytest.mark.parametrize(
    ('stages', 'modules', 'ranks', 'message'),
    [
        (None, 1, 2, 'there is one module'),
        (None, 3, 4, r'3 modules: .* write one of \[2\]'),
        (None, 2, 5, 'another number of ranks than 5'),
        (3, 2, 6, 'more than the 2 modules'),
        (2, 3, 3, r'divided into 2 stages; write one of \[3\]'),
        (0, 3, 3, 'divided into 0 stages'),
        ([2, 2], 3, 2, 'there are 3'),
        ([3, 0], 3, 2, 'at least one'),
    ],
)
def test_what_cannot_be_divided(stages, modules, ranks, message):
    with pytest.raises(ValueError, match=message):
        number_of_stages(stages, modules, ranks)


def test_a_message_is_what_was_sent():
    image = torch.randn(2, 3, 4, 5).contiguous(
        memory_format=torch.channels_last
    )
    sent = {
        'list': [torch.randn(3, requires_grad=True), torch.tensor(True)],
        'half': (torch.randn(2, 2).bfloat16(), 'text', None),
        'image': image,
        'empty': torch.empty(0, 4),
        'part': torch.arange(12).view(3, 4)[:, 1],
    }
    found = _unpack(*_pack(sent, CPU))
    assert torch.equal(found['list'][0], sent['list'][0])
    assert not found['list'][0].requires_grad
    assert found['list'][1].item() is True
    assert torch.equal(found['half'][0], sent['half'][0])
    assert found['half'][1:] == ('text', None)
    assert torch.equal(found['image'], image)
    assert found['image'].stride() == image.stride()
    assert found['empty'].shape == (0, 4)
    assert found['part'].tolist() == [1, 5, 9]


def test_labels_do_not_keep_the_feature():
    sent = {
        'feat': torch.randn(1000),
        'labels': [torch.ones(1), torch.ones(2)],
    }
    found = _unpack(*_pack(sent, CPU))
    for label in found['labels']:
        assert label.untyped_storage().nbytes() == label.nbytes


def test_a_message_without_tensors():
    header, payload = _pack({'a': 1}, CPU)
    assert payload.numel() == 0
    assert _unpack(header, None) == {'a': 1}


def runner(loop=IterBasedTrainLoop, hooks=(), mode='whole', round_up=True):
    sampler = SimpleNamespace(round_up=round_up)
    val_loop = ValLoop.__new__(ValLoop)
    val_loop.dataloader = SimpleNamespace(sampler=sampler)
    return SimpleNamespace(
        train_loop=loop.__new__(loop),
        hooks=[LocalCheckpointHook(), *hooks],
        _val_loop=val_loop,
        model=SimpleNamespace(module=SimpleNamespace(test_cfg={'mode': mode})),
    )


def test_runs_that_fit_have_no_problems():
    assert list(run_problems(runner())) == []


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'loop': SequentialIterTrainLoop}, "write 'EpochBasedTrainLoop'"),
        ({'hooks': [EMAHook()]}, 'EMAHook looks at all modules'),
        ({'hooks': [CheckpointHook()]}, 'LocalCheckpointHook'),
        ({'mode': 'slide'}, "write mode='whole'"),
        ({'round_up': False}, 'round_up=False'),
    ],
)
def test_problems_say_what_to_write(change, message):
    (problem,) = run_problems(runner(**change))
    assert message in problem
