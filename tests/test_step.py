import pytest
import torch
from mmengine.model import BaseDataPreprocessor, MMDistributedDataParallel
from torch import nn

from mmlocal.step import LocalStep, activate, current_step, unwrap


class Model(nn.Module):
    """As mmengine's models: called with names or without."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = BaseDataPreprocessor()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


@pytest.mark.parametrize('names', [(), ('data_samples',), ('inputs',)])
def test_the_batch_is_captured_as_the_model_gets_it(names):
    model, step = Model(), LocalStep(backward=torch.Tensor.backward)
    handle = model.register_forward_pre_hook(step.capture, with_kwargs=True)
    inputs, samples = torch.rand(2, 3, 4, 4), ['a', 'b']
    if names == ('inputs',):
        model(inputs=inputs, data_samples=samples, mode='loss')
    elif names:
        model(inputs, data_samples=samples, mode='loss')
    else:
        model(inputs, samples, 'loss')
    handle.remove()
    assert step.inputs is inputs
    assert step.data_samples is samples
    assert step.preprocessor is model.data_preprocessor


def test_steps_are_current_one_inside_of_the_other():
    outer, inner = (LocalStep(backward=None) for _ in range(2))
    assert current_step() is None
    with activate(outer):
        with pytest.raises(RuntimeError, match='stop'), activate(inner):
            assert current_step() is inner
            raise RuntimeError('stop')
        assert current_step() is outer
    assert current_step() is None


def test_unwrap():
    class Wrapper(MMDistributedDataParallel):
        def __init__(self, module):  # without a process group
            nn.Module.__init__(self)
            self.module = module

    model = Model()
    assert unwrap(model) is model
    assert unwrap(Wrapper(Wrapper(model))) is model
