"""What wrappers of locally trained models have in common."""

from __future__ import annotations

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmlocal.engine.optim import LocalStepMixin


class LocalModelWrapper(nn.Module):
    """Trains and asks the model inside, as mmengine's wrappers do.

    Args:
        module (nn.Module): The model.

    Attributes:
        is_sharded (bool): Whether a forward takes all ranks.
    """

    is_sharded = False

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """One training iteration.

        Args:
            data (dict | tuple | list): What the data loader hands out.
            optim_wrapper (OptimWrapper): A local one: it waits for the
                gradients before it uses them.

        Returns:
            dict[str, Tensor]: Values for the log.

        Raises:
            ValueError: If the optimizer wrapper is no local one.
        """
        if not isinstance(optim_wrapper, LocalStepMixin):
            raise ValueError(
                f'optim_wrapper.type is {type(optim_wrapper).__name__}, '
                'which would step before the gradients are reduced: write '
                "'mmlocal.LocalOptimWrapper' or 'mmlocal.LocalAmpOptimWrapper'"
                ', or train with MMDistributedDataParallel.'
            )
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, training=True)
            if isinstance(data, dict):
                losses = self(**data, mode='loss')
            else:
                losses = self(*data, mode='loss')
        loss, log = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return log

    def val_step(self, data: dict | tuple | list) -> list:
        """The model's predictions."""
        return self.module.val_step(data)

    def test_step(self, data: dict | tuple | list) -> list:
        """The model's predictions."""
        return self.module.test_step(data)
