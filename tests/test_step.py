import pytest
import torch
from mmengine.model import (
    BaseDataPreprocessor,
    ImgDataPreprocessor,
    MMDistributedDataParallel,
)
from torch import nn

from mmlocal.step import (
    LocalStep,
    activate,
    check_unnormalized,
    current_step,
    unwrap,
)


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


def test_pixels_are_those_of_the_last_batch():
    step = LocalStep(inputs=torch.full((1, 3, 2, 2), 51.0))
    assert step.pixels is step.pixels
    first, step.inputs = step.pixels, torch.full((1, 3, 2, 2), 102.0)
    assert first.unique().tolist() == pytest.approx([0.2])
    assert step.pixels.unique().tolist() == pytest.approx([0.4])


IMAGES = torch.randint(0, 256, (2, 3, 8, 8)).float()


@pytest.mark.parametrize(
    ('inputs', 'refused'),
    [
        (IMAGES, False),
        (IMAGES.to(torch.uint8), False),
        (1.15 * IMAGES - 15, False),  # bicubic resizing overshoots
        (torch.zeros(2, 3, 8, 8), False),
        (IMAGES / 255, True),
        ((IMAGES - 120) / 60, True),
        (IMAGES - 120, True),
        (4 * IMAGES, True),
    ],
)
def test_images_that_are_normalized_in_the_pipeline(inputs, refused):
    """There is no telling pixels from what the pipeline has made of them."""
    model = Model()
    if refused:
        with pytest.raises(ValueError, match='remove Normalize'):
            check_unnormalized(inputs, model.data_preprocessor)
    else:
        check_unnormalized(inputs, model.data_preprocessor)
    known = ImgDataPreprocessor(mean=[120.0] * 3, std=[60.0] * 3)
    check_unnormalized(inputs, known)
