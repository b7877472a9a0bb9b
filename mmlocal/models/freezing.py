"""Training one module of a cut backbone while the others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .module_parts import ModuleParts


class FrozenModules:
    """All modules but one, frozen as mm's ``frozen_stages`` are.

    Their weights and those of their heads ask for no gradient, so that no
    optimizer moves them (momentum and weight decay come with a gradient),
    and they are in eval mode, so that running statistics stay; unless those
    before the module that trains are let move them.

    Args:
        backbone (nn.Module): The backbone that is cut.
        parts (ModuleParts): Which module owns what.
        heads (Sequence[nn.Module]): The local heads, in order.
        index (int): The module that trains; as many as there are for none.
        moving_statistics (bool): Leave the modules before it in train mode.
            Defaults to False.
    """

    def __init__(
        self,
        backbone: nn.Module,
        parts: ModuleParts,
        heads: Sequence[nn.Module],
        index: int,
        moving_statistics: bool = False,
    ):
        self.backbone = backbone
        self.heads = [head for i, head in enumerate(heads) if i != index]
        others = {*parts.submodules.values()} - {index}
        if moving_statistics:
            others -= {*range(index)}
        self.submodules = [
            name for other in others for name in parts.submodules_of(other)
        ]
        weights = [
            weight
            for name, weight in backbone.named_parameters()
            if parts.weights.get(name, index) != index
        ]
        weights += [w for head in self.heads for w in head.parameters()]
        self.weights = [weight for weight in weights if weight.requires_grad]
        for weight in self.weights:
            weight.requires_grad_(False)
            weight.grad = None

    def eval(self) -> None:
        """Put them in eval mode."""
        for name in self.submodules:
            self.backbone.get_submodule(name).eval()
        for head in self.heads:
            head.eval()

    def release(self) -> None:
        """Let them be trained again."""
        for weight in self.weights:
            weight.requires_grad_(True)
