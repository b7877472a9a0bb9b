import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from mmlocal.registry import HOOKS

DATA = [torch.tensor([float(value)]) for value in (1, 5, 2, 4)]


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return {'loss': (self.weight - inputs).square().sum()}


def optimizer(kind, parameters):
    if kind == 'Adam':
        return torch.optim.Adam(parameters, lr=0.1)
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def train(tmp_path, kind, milestones, epochs, resume=False, by_epoch=True):
    model = Toy()
    hook = {
        'type': 'mmlocal.ResetOptimizerStateHook',
        'milestones': milestones,
        'by_epoch': by_epoch,
    }
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader={
            'dataset': DATA,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': lambda items: {'inputs': torch.stack(items)},
            'batch_size': 2,
        },
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        optim_wrapper=OptimWrapper(optimizer(kind, model.parameters())),
        param_scheduler={
            'type': 'MultiStepLR',
            'milestones': [2, 4],
            'gamma': 0.5,
            'end': 5,  # of a run that is not stopped
        },
        custom_hooks=[hook],
        resume=resume,
        experiment_name=f'{tmp_path.name}_{kind}_{epochs}_{resume}',
    )
    runner.train()
    return model.weight.item()


def by_hand(kind, milestones, epochs):
    """A new optimizer at each milestone, as in the authors' code."""
    weight = nn.Parameter(torch.zeros(1))
    lr = 0.1
    for epoch in range(epochs):
        lr *= 0.5 if epoch in (2, 4) else 1
        if epoch == 0 or epoch in milestones:
            optim = optimizer(kind, [weight])
        for group in optim.param_groups:
            group['lr'] = lr
        for batch in (DATA[:2], DATA[2:]):
            optim.zero_grad()
            (weight - torch.stack(batch)).square().sum().backward()
            optim.step()
    return weight.item()


@pytest.mark.parametrize('kind', ['SGD', 'Adam'])
def test_as_a_new_optimizer(kind, tmp_path):
    found = train(tmp_path, kind, [2, 4], 5)
    assert found == pytest.approx(by_hand(kind, [2, 4], 5), abs=1e-6)
    assert abs(found - by_hand(kind, [], 5)) > 1e-3


@pytest.mark.parametrize('stop', [1, 2, 3])
def test_resumed_before_at_and_behind_a_milestone(stop, tmp_path):
    train(tmp_path, 'SGD', [2, 4], stop)
    found = train(tmp_path, 'SGD', [2, 4], 5, resume=True)
    assert found == pytest.approx(by_hand('SGD', [2, 4], 5), abs=1e-6)


def test_iterations(tmp_path):
    """Two iterations an epoch."""
    found = train(tmp_path, 'SGD', [4, 8], 5, by_epoch=False)
    assert found == pytest.approx(by_hand('SGD', [2, 4], 5), abs=1e-6)


def test_several_optimizers():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    wrappers = [OptimWrapper(optimizer('SGD', [w])) for w in weights]
    for weight, wrapper in zip(weights, wrappers, strict=True):
        weight.grad = torch.ones(1)
        wrapper.step()
        assert wrapper.optimizer.state

    class Stub:
        epoch = 3
        optim_wrapper = OptimWrapperDict(a=wrappers[0], b=wrappers[1])

    hook = HOOKS.build(
        {'type': 'mmlocal.ResetOptimizerStateHook', 'milestones': [3]}
    )
    hook.before_train_epoch(Stub())
    assert not any(wrapper.optimizer.state for wrapper in wrappers)


@pytest.mark.parametrize('milestones', [[0], [-1, 3], [1.5]])
def test_bad_milestones(milestones):
    with pytest.raises(ValueError, match='whole numbers above 0'):
        HOOKS.build(
            {
                'type': 'mmlocal.ResetOptimizerStateHook',
                'milestones': milestones,
            }
        )
